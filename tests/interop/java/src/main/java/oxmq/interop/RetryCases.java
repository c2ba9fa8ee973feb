package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.equal;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages that the consumer gives back, and where they end. */
final class RetryCases {
    private RetryCases() {
    }

    /** Fails twice: the first time with the default delay (10 s), the second with an explicit one (1 s). */
    static void retry(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("retry");
        env.send(topic, "retried", 2);
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("retry");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (List<MessageExt> batch,
            ConsumeConcurrentlyContext context) -> {
            received.add(batch);
            int times = batch.get(0).getReconsumeTimes();
            context.setDelayLevelWhenNextConsume(times == 0 ? 0 : 1);
            return times < 2 ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        List<String> expected = new ArrayList<>();
        for (int delivery = 0; delivery < 3; delivery++) {
            expected.addAll(Env.bodies("retried", 2));
        }
        received.awaitExactly("three deliveries", expected);
        consumer.shutdown();
        for (MessageExt message : received.messages()) {
            equal("topic shown to the application", topic, message.getTopic());
        }
        List<MessageExt> one = received.messages().stream().filter(message -> Env.body(message).equals("retried-000"))
            .collect(Collectors.toList());
        equal("unique ids", 1L, one.stream().map(MessageExt::getMsgId).distinct().count());
        facts.put("reconsume-times", one.stream().map(MessageExt::getReconsumeTimes).collect(Collectors.toList()));
        facts.put("properties", one.stream().map(Env::propertyNames).collect(Collectors.toList()));
    }

    static void deadLetter(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("dead-letter");
        env.send(topic, "dead", 1);
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("dead-letter");
        consumer.subscribe(topic, "*");
        consumer.setMaxReconsumeTimes(1);
        consumer.registerMessageListener((MessageListenerConcurrently) (List<MessageExt> batch,
            ConsumeConcurrentlyContext context) -> {
            received.add(batch);
            context.setDelayLevelWhenNextConsume(1);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.start();
        awaitDead(env, "dead-letter", "dead-000", facts);
        consumer.shutdown();
        facts.put("deliveries", received.messages().stream().map(MessageExt::getReconsumeTimes)
            .collect(Collectors.toList()));
    }

    /** An orderly consumer retries on the spot; then the client sends the message to the retry topic itself. */
    static void deadLetterOrderly(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("dead-letter-orderly");
        env.createTopic(topic, 1);
        env.send(topic, "dead", 2);
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("dead-letter-orderly");
        consumer.subscribe(topic, "*");
        consumer.setMaxReconsumeTimes(1);
        consumer.setSuspendCurrentQueueTimeMillis(100);
        consumer.registerMessageListener((MessageListenerOrderly) (List<MessageExt> batch,
            ConsumeOrderlyContext context) -> {
            received.add(batch);
            return Env.body(batch.get(0)).equals("dead-000") ? ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT
                : ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        awaitDead(env, "dead-letter-orderly", "dead-000", facts);
        await("the next message", () -> received.bodies().contains("dead-001"));
        consumer.shutdown();
        facts.put("bodies", received.bodies());
    }

    private static void awaitDead(Env env, String group, String body, Map<String, Object> facts) throws Exception {
        String deadLetters = "%DLQ%" + env.name(group);
        MessageExt dead = env.readAll(deadLetters, 1).get(0);
        equal("body", body, Env.body(dead));
        facts.put("dead", Arrays.asList(dead.getReconsumeTimes(), Env.propertyNames(dead),
            dead.getProperty("RETRY_TOPIC").substring(env.name("").length())));
    }
}
