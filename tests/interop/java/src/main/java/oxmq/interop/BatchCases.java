package oxmq.interop;

import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Topics of queue.type=BatchCQ: a batch is one record, which consumers unwrap. */
final class BatchCases {
    private BatchCases() {
    }

    /** Single sends that the client puts together by itself. */
    static void autoBatch(Env env, Map<String, Object> facts) throws Exception {
        env.needsVersion5();
        String topic = env.name("send-auto-batch");
        env.createTopic(topic, 2, Map.of("queue.type", "BatchCQ"));
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("send-auto-batch");
        consumer.subscribe(topic, "tag");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();

        DefaultMQProducer producer = env.producer("send-auto-batch");
        producer.getClass().getMethod("setAutoBatch", boolean.class).invoke(producer, true);
        producer.start();
        ExecutorService threads = Executors.newFixedThreadPool(20);
        AtomicReference<Exception> failure = new AtomicReference<>();
        CountDownLatch sent = new CountDownLatch(60);
        for (String body : Env.bodies("batched", 60)) {
            threads.execute(() -> {
                try {
                    check(producer.send(Env.message(topic, "tag", body)).getQueueOffset() >= 0, "queue offset");
                } catch (Exception e) {
                    failure.set(e);
                }
                sent.countDown();
            });
        }
        check(sent.await(60, TimeUnit.SECONDS), "sends do not end");
        threads.shutdown();
        producer.shutdown();
        if (failure.get() != null) {
            throw failure.get();
        }
        received.awaitExactly("batched messages", Env.bodies("batched", 60));
        consumer.shutdown();
        equal("stored", 60L, env.stored(topic));
        MessageExt first = received.messages().iterator().next();
        equal("keys", "key-" + Env.body(first), first.getKeys());
        facts.put("properties", Env.propertyNames(first));
    }

    static void innerBatch(Env env, Map<String, Object> facts) throws Exception {
        env.needsVersion5();
        String topic = env.name("inner-batch");
        env.createTopic(topic, 1, Map.of("queue.type", "BatchCQ"));
        MessageQueue queue = new MessageQueue(topic, "broker-a", 0);
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(env.name("inner-batch"));
        consumer.setNamesrvAddr(env.namesrv);
        consumer.start();
        facts.put("empty", consumer.pull(queue, "*", 0, 32).getPullStatus().name());
        for (int round = 0; round < 3; round++) {
            List<Message> batch = new ArrayList<>();
            for (String body : Env.bodies("inner-" + round, 10)) {
                batch.add(Env.message(topic, "tag", body));
            }
            SendResult sent = env.producer.send(batch, queue);
            facts.put("sent-" + round, Arrays.asList(sent.getSendStatus().name(), sent.getQueueOffset(),
                sent.getOffsetMsgId().length(), sent.getMsgId().length()));
        }
        Env.await("all batches", () -> consumer.maxOffset(queue) == 30);
        equal("minimum", 0L, consumer.minOffset(queue));
        for (long offset : new long[] {0, 5, 9, 10, 15, 20, 29, 30, 31}) {
            facts.put("from-" + offset, describe(consumer.pull(queue, "*", offset, 32)));
        }
        for (int count : new int[] {1, 10, 11, 20, 25}) {
            facts.put("count-" + count, describe(consumer.pull(queue, "*", 0, count)));
        }
        facts.put("time-past", consumer.searchOffset(queue, 1));
        facts.put("time-future", consumer.searchOffset(queue, System.currentTimeMillis() + 60_000));
        facts.put("stats", env.admin.examineTopicStats(topic).getOffsetTable().values().stream()
            .map(offset -> Arrays.asList(offset.getMinOffset(), offset.getMaxOffset())).collect(Collectors.toList()));
        MessageExt inner = consumer.pull(queue, "*", 10, 10).getMsgFoundList().get(3);
        facts.put("inner", Arrays.asList(inner.getQueueOffset(), inner.getSysFlag() & 0xFF, inner.getBodyCRC() != 0,
            inner.getKeys(), inner.getTags(), Env.propertyNames(inner)));

        CompletableFuture<PullResult> waiting = CompletableFuture.supplyAsync(() -> {
            try {
                return consumer.pullBlockIfNotFound(queue, "*", 30, 32);
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        List<Message> late = List.of(Env.message(topic, "tag", "late-0"), Env.message(topic, "tag", "late-1"));
        env.producer.send(late, queue);
        facts.put("blocking", describe(waiting.get(60, TimeUnit.SECONDS)));

        // What a client must not claim.
        facts.put("number without flag", refused(env, topic, "INNER_NUM", "3"));
        String simple = env.name("inner-batch-simple");
        env.createTopic(simple, 1);
        facts.put("number on a simple queue", refused(env, simple, "INNER_NUM", "3"));
        consumer.shutdown();
    }

    private static Object refused(Env env, String topic, String property, String value) throws Exception {
        Message message = new Message(topic, "body".getBytes(StandardCharsets.UTF_8));
        MessageAccessor.putProperty(message, property, value);
        try {
            return env.producer.send(message, new MessageQueue(topic, "broker-a", 0)).getSendStatus().name();
        } catch (MQBrokerException refusal) {
            return refusal.getResponseCode();
        }
    }

    /** Messages that enter light queues besides their own. */
    static void lightQueues(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("lmq");
        env.createTopic(topic, 2);
        String first = "%LMQ%" + env.name("first");
        String second = "%LMQ%" + env.name("second");
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("%LMQ%" + env.name("lmq"));
        consumer.setNamesrvAddr(env.namesrv);
        consumer.start();
        // So that the client knows the broker, which it cannot find by the name of a light queue.
        consumer.pull(new MessageQueue(topic, "broker-a", 0), "*", 0, 1);
        MessageQueue firstQueue = new MessageQueue(first, "broker-a", 0);
        MessageQueue secondQueue = new MessageQueue(second, "broker-a", 0);
        facts.put("empty", describe(consumer.pull(firstQueue, "*", 0, 32)));
        for (int i = 0; i < 9; i++) {
            Message message = Env.message(topic, i % 2 == 0 ? "even" : "odd", "light-" + i);
            String queues = i % 3 == 0 ? first : i % 3 == 1 ? second : first + "," + second;
            MessageAccessor.putProperty(message, "INNER_MULTI_DISPATCH", queues);
            SendResult sent = env.producer.send(message, new MessageQueue(topic, "broker-a", i % 2));
            facts.put("sent-" + i, Arrays.asList(sent.getMessageQueue().getQueueId(), sent.getQueueOffset()));
        }
        Env.await("light queues", () -> consumer.maxOffset(firstQueue) == 6 && consumer.maxOffset(secondQueue) == 6);
        facts.put("first", describe(consumer.pull(firstQueue, "*", 0, 32)));
        facts.put("second", describe(consumer.pull(secondQueue, "*", 2, 3)));
        facts.put("odd", describe(consumer.pull(firstQueue, "odd", 0, 32)));
        facts.put("beyond", describe(consumer.pull(firstQueue, "*", 100, 32)));
        facts.put("own queues", env.stored(topic));
        MessageExt both = consumer.pull(secondQueue, "*", 1, 1).getMsgFoundList().get(0);
        facts.put("message", Arrays.asList(both.getTopic(), both.getQueueId(), both.getQueueOffset(),
            both.getProperty("INNER_MULTI_DISPATCH"), both.getProperty("INNER_MULTI_QUEUE_OFFSET")));

        CompletableFuture<PullResult> waiting = CompletableFuture.supplyAsync(() -> {
            try {
                return consumer.pullBlockIfNotFound(secondQueue, "*", 6, 32);
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        Message late = Env.message(topic, "tag", "late");
        MessageAccessor.putProperty(late, "INNER_MULTI_DISPATCH", second);
        env.producer.send(late, new MessageQueue(topic, "broker-a", 0));
        facts.put("blocking", describe(waiting.get(60, TimeUnit.SECONDS)));

        facts.put("offset before", consumer.fetchConsumeOffset(firstQueue, true));
        consumer.getDefaultMQPullConsumerImpl().updateConsumeOffset(firstQueue, 4);
        consumer.getOffsetStore().persist(firstQueue);
        consumer.getDefaultMQPullConsumerImpl().persistConsumerOffset();
        Env.await("committed offset", () -> consumer.fetchConsumeOffset(firstQueue, true) == 4);

        // Other names are not light queues, and queue 0 is the only one.
        Message odd = Env.message(topic, "tag", "odd-names");
        MessageAccessor.putProperty(odd, "INNER_MULTI_DISPATCH", "%LMQ%" + env.name("third"));
        env.producer.send(odd, new MessageQueue(topic, "broker-a", 0));
        MessageQueue third = new MessageQueue("%LMQ%" + env.name("third"), "broker-a", 0);
        Env.await("third queue", () -> consumer.maxOffset(third) == 1);
        try {
            consumer.pull(new MessageQueue(first, "broker-a", 1), "*", 0, 1);
            facts.put("queue 1", "pulled");
        } catch (MQBrokerException refusal) {
            facts.put("queue 1", refusal.getResponseCode());
        }
        consumer.shutdown();
    }

    private static Collection<Object> describe(PullResult result) {
        List<String> bodies = result.getMsgFoundList() == null ? List.of()
            : result.getMsgFoundList().stream().map(message -> message.getQueueOffset() + ":" + Env.body(message))
                .collect(Collectors.toList());
        return Arrays.asList(result.getPullStatus().name(), result.getNextBeginOffset(), result.getMinOffset(),
            result.getMaxOffset(), new ArrayList<>(bodies));
    }
}
