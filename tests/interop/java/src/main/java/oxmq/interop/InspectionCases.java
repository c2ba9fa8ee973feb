package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.equal;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;

/** What an administrator asks of a consumer through the broker: to take one message now, and how it runs. */
final class InspectionCases {
    private InspectionCases() {
    }

    static void inspect(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("inspect");
        env.createTopic(topic, 2);
        Map<String, String> sent = new LinkedHashMap<>();
        for (String body : List.of("good", "later", "broken")) {
            SendResult result = env.producer.send(Env.message(topic, "tag", body));
            sent.put(body, result.getOffsetMsgId());
        }

        Received received = new Received();
        DefaultMQPushConsumer concurrent = env.consumer("inspect");
        concurrent.subscribe(topic, "tag || other");
        concurrent.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            received.add(messages);
            String body = Env.body(messages.get(0));
            boolean again = times(received, body) > 1;
            if (again && body.equals("broken")) {
                throw new IllegalStateException("broken");
            }
            return again && body.equals("later")
                ? ConsumeConcurrentlyStatus.RECONSUME_LATER
                : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        concurrent.start();
        received.awaitExactly("messages", List.of("good", "later", "broken"));
        facts.put("concurrent", take(env, concurrent, topic, sent));
        equal("taken", 6, received.count());
        facts.put("running", running(env, concurrent));

        DefaultMQPushConsumer orderly = env.consumer("inspect-orderly");
        Received inOrder = new Received();
        orderly.subscribe(topic, "*");
        orderly.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            inOrder.add(messages);
            boolean again = times(inOrder, "later") > 1 && Env.body(messages.get(0)).equals("later");
            return again ? ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT : ConsumeOrderlyStatus.SUCCESS;
        });
        orderly.start();
        inOrder.awaitExactly("messages", List.of("good", "later", "broken"));
        facts.put("orderly", take(env, orderly, topic, sent));
        facts.put("running orderly", running(env, orderly));

        String client = clientId(env, concurrent);
        String group = concurrent.getConsumerGroup();
        String id = sent.get("good");
        Map<String, Object> refused = new TreeMap<>();
        refused.put("running of nobody", code(() -> env.admin.getConsumerRunningInfo(group, "nobody", false)));
        refused.put("taken by nobody", code(() -> env.admin.consumeMessageDirectly(group, "nobody", topic, id)));
        refused.put("running of no group",
            code(() -> env.admin.getConsumerRunningInfo(env.name("no-group"), client, false)));
        facts.put("refused", refused);
        concurrent.shutdown();
        orderly.shutdown();
        await("goodbye", () -> code(() -> env.admin.getConsumerRunningInfo(group, client, false)) != null);
        facts.put("gone", code(() -> env.admin.getConsumerRunningInfo(group, client, false)));
    }

    private static long times(Received received, String body) {
        return received.bodies().stream().filter(body::equals).count();
    }

    private static String clientId(Env env, DefaultMQPushConsumer consumer) throws Exception {
        String[] result = new String[1];
        await("the connection of " + consumer.getConsumerGroup(), () -> {
            var connections = env.admin.examineConsumerConnectionInfo(consumer.getConsumerGroup()).getConnectionSet();
            connections.forEach(connection -> result[0] = connection.getClientId());
            return result[0] != null;
        });
        return result[0];
    }

    /** What the listener makes of each message when an administrator hands it over. */
    private static Map<String, Object> take(Env env, DefaultMQPushConsumer consumer, String topic,
        Map<String, String> sent) throws Exception {
        Map<String, Object> facts = new TreeMap<>();
        String client = clientId(env, consumer);
        for (Map.Entry<String, String> message : sent.entrySet()) {
            var result = env.admin.consumeMessageDirectly(consumer.getConsumerGroup(), client, topic, message.getValue());
            String remark = Objects.toString(result.getRemark(), "").split("\n")[0];
            facts.put(message.getKey(), List.of(result.isOrder(), result.isAutoCommit(),
                result.getConsumeResult().toString(), remark));
        }
        return facts;
    }

    private static Map<String, Object> running(Env env, DefaultMQPushConsumer consumer) throws Exception {
        String group = consumer.getConsumerGroup();
        var info = env.admin.getConsumerRunningInfo(group, clientId(env, consumer), false);
        Map<String, Object> facts = new TreeMap<>();
        facts.put("subscriptions", info.getSubscriptionSet().stream()
            .map(subscription -> subscription.getTopic() + " " + subscription.getSubString())
            .collect(Collectors.toCollection(TreeSet::new)));
        // When the retry topic comes in is chance.
        facts.put("queues", info.getMqTable().keySet().stream()
            .filter(queue -> !queue.getTopic().startsWith("%RETRY%"))
            .map(queue -> queue.getTopic() + " " + queue.getQueueId())
            .collect(Collectors.toCollection(TreeSet::new)));
        facts.put("orderly", info.getProperties().getProperty("PROP_CONSUMEORDERLY"));
        facts.put("type", info.getProperties().getProperty("PROP_CONSUME_TYPE"));
        facts.put("stacks", info.getJstack() != null);
        facts.put("stacks when asked", env.admin.getConsumerRunningInfo(group, clientId(env, consumer), true)
            .getJstack() != null);
        return facts;
    }

    /** The code of a refusal, nothing when it is none. */
    private static Integer code(Callable<?> request) throws Exception {
        try {
            request.call();
            return null;
        } catch (MQBrokerException refused) {
            return refused.getResponseCode();
        } catch (MQClientException refused) {
            return refused.getResponseCode();
        }
    }
}
