//! Which messages of a topic a consumer wants.

use std::time::Duration;

use oxmq_protocol::body::{CheckClientRequestBody, EXPRESSION_TYPE_SQL92, ExpressionError, SubscriptionData};
use oxmq_protocol::json;
use oxmq_protocol::requests::request;

use super::broker_calls::BrokerCalls;
use crate::clock::now_millis;
use crate::error::ClientError;

const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Which messages of a topic a consumer wants: by tags, which a plain text means, or by an SQL92 expression over
/// properties.
///
/// ```
/// # use oxmq_client::MessageSelector;
/// let tags: MessageSelector = "eu || vip".into();
/// assert_eq!(tags, MessageSelector::by_tag("eu || vip"));
/// let cheap = MessageSelector::by_sql("price BETWEEN 1 AND 5 AND colour IS NOT NULL");
/// # assert_ne!(tags, cheap);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageSelector {
    kind: Kind,
    expression: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tag,
    Sql92,
}

impl MessageSelector {
    /// `*` takes all of a topic, `tagA || tagB` those with one of the tags.
    pub fn by_tag(expression: impl Into<String>) -> MessageSelector {
        MessageSelector {
            kind: Kind::Tag,
            expression: expression.into(),
        }
    }

    /// Messages whose properties make the expression true. The broker has to allow it (`enablePropertyFilter`), and is
    /// asked whether it understands the expression when a consumer subscribes.
    pub fn by_sql(expression: impl Into<String>) -> MessageSelector {
        MessageSelector {
            kind: Kind::Sql92,
            expression: expression.into(),
        }
    }

    /// What this selects of a topic, from now on.
    pub(crate) fn subscription(&self, topic: &str) -> Result<SubscriptionData, ClientError> {
        match self.kind {
            Kind::Tag => Ok(SubscriptionData::parse(topic, &self.expression, now_millis())?),
            Kind::Sql92 if self.expression.is_empty() => Err(ExpressionError(String::new()).into()),
            Kind::Sql92 => Ok(SubscriptionData {
                topic: topic.to_owned(),
                expression_type: EXPRESSION_TYPE_SQL92.to_owned(),
                sub_string: self.expression.clone(),
                sub_version: now_millis(),
                ..SubscriptionData::default()
            }),
        }
    }
}

impl<T: Into<String>> From<T> for MessageSelector {
    fn from(tags: T) -> MessageSelector {
        MessageSelector::by_tag(tags)
    }
}

impl BrokerCalls {
    /// Asks a broker of the topic whether it takes the expression (46). Tags need no asking, and a topic without a route
    /// has nobody to ask.
    pub(crate) async fn check_expression(&self, subscription: &SubscriptionData) -> Result<(), ClientError> {
        if subscription.is_tag_type() {
            return Ok(());
        }
        let Ok(route) = self.instance.route(&subscription.topic).await else {
            return Ok(());
        };
        let brokers = &route.data.broker_datas;
        let Some(addr) = brokers.iter().flat_map(|broker| broker.broker_addrs.values()).next() else {
            return Ok(());
        };
        let body = CheckClientRequestBody {
            client_id: self.instance.client_id().to_owned(),
            group: self.group.clone(),
            namespace: None,
            subscription_data: subscription.clone(),
        };
        self.instance
            .call::<request::CheckClientConfig>(addr, &(), json::to_vec(&body).into(), CHECK_TIMEOUT)
            .await?;
        Ok(())
    }
}
