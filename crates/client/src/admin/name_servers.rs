//! Name servers. They do not know each other: what is to hold everywhere is told to each.

use bytes::Bytes;
use oxmq_protocol::properties_file::{self, Property};
use oxmq_protocol::requests::{BrokerNameHeader, KvConfigHeader, PutKvConfigHeader, request};

use super::brokers::properties_text;
use super::*;

impl Admin {
    /// A value of the name servers' own table. Refused with 22 when there is none.
    pub async fn kv_config(&self, namespace: &str, key: &str) -> Result<String, ClientError> {
        let header = kv_header(namespace, key);
        let reply = self.instance.call_name_server::<request::GetKvConfig>(&header).await?;
        Ok(reply.fields.value.unwrap_or_default())
    }

    pub async fn put_kv_config(&self, namespace: &str, key: &str, value: &str) -> Result<(), ClientError> {
        let header = PutKvConfigHeader {
            namespace: Some(namespace.to_owned()),
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        for addr in self.instance.name_server_addrs() {
            self.tell::<request::PutKvConfig>(addr, &header).await?;
        }
        Ok(())
    }

    pub async fn delete_kv_config(&self, namespace: &str, key: &str) -> Result<(), ClientError> {
        let header = kv_header(namespace, key);
        for addr in self.instance.name_server_addrs() {
            self.tell::<request::DeleteKvConfig>(addr, &header).await?;
        }
        Ok(())
    }

    /// Lets no more be written to a broker's topics, as this name server tells it. Returns how many there were.
    pub async fn wipe_write_perm(&self, name_server: &str, broker_name: &str) -> Result<i32, ClientError> {
        let header = broker_name_header(broker_name);
        let reply = self
            .call::<request::WipeWritePermOfBroker>(name_server, &header, Bytes::new())
            .await?;
        Ok(reply.fields.wipe_topic_count)
    }

    /// Takes [`Admin::wipe_write_perm`] back.
    pub async fn add_write_perm(&self, name_server: &str, broker_name: &str) -> Result<i32, ClientError> {
        let header = broker_name_header(broker_name);
        let reply = self
            .call::<request::AddWritePermOfBroker>(name_server, &header, Bytes::new())
            .await?;
        Ok(reply.fields.add_topic_count)
    }

    /// A name server's settings.
    pub async fn name_server_config(&self, name_server: &str) -> Result<Vec<Property>, ClientError> {
        let reply = self
            .call::<request::GetNamesrvConfig>(name_server, &(), Bytes::new())
            .await?;
        Ok(properties_text(&reply.body))
    }

    /// Changes a setting of every name server.
    pub async fn update_name_server_config(&self, key: &str, value: &str) -> Result<(), ClientError> {
        let body = Bytes::from(properties_file::write([(key, value)]));
        for addr in self.instance.name_server_addrs() {
            self.call::<request::UpdateNamesrvConfig>(addr, &(), body.clone())
                .await?;
        }
        Ok(())
    }
}

fn kv_header(namespace: &str, key: &str) -> KvConfigHeader {
    KvConfigHeader {
        namespace: Some(namespace.to_owned()),
        key: Some(key.to_owned()),
    }
}

fn broker_name_header(broker_name: &str) -> BrokerNameHeader {
    BrokerNameHeader {
        broker_name: broker_name.to_owned(),
    }
}
