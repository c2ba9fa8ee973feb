package oxmq.interop;

import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** What the settings of a topic mean: permissions, queue counts, order, attributes, compaction. */
final class TopicCases {
    private TopicCases() {
    }

    static void permissions(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("topic-permissions");
        env.createTopic(topic, 2, 6);
        MessageQueue queue = new MessageQueue(topic, "broker-a", 0);
        env.send(topic, "before", 4);

        env.createTopic(topic, 2, 2);
        facts.put("pull of a topic for writing", code(() -> env.reader.pull(queue, "*", 0, 32)));
        facts.put("send to a topic for writing", code(() -> env.producer.send(message(topic), queue)));

        env.createTopic(topic, 2, 4);
        facts.put("send past the route", code(() -> env.producer.send(message(topic), queue)));
        facts.put("pull of a topic for reading", code(() -> env.reader.pull(queue, "*", 0, 32)));
        // A client that looks the route up anew has no queue to send to.
        DefaultMQProducer fresh = env.producer("topic-permissions");
        fresh.setRetryTimesWhenSendFailed(0);
        fresh.start();
        try {
            fresh.send(message(topic));
            throw new AssertionError("sent to a topic for reading");
        } catch (MQClientException refused) {
            facts.put("send to a topic for reading", refused.getResponseCode());
        }
        env.createTopic(topic, 2, 6);
        Env.await("a route that can be written to", () -> {
            fresh.fetchPublishMessageQueues(topic);
            return fresh.send(message(topic)).getQueueOffset() >= 0;
        });
        fresh.shutdown();

        for (int perm : new int[] {0, 7, 8, -1}) {
            facts.put("perm " + perm, code(() -> {
                env.admin.createAndUpdateTopicConfig(env.brokerAddr(), new TopicConfig(topic + "-x", 1, 1, perm));
                return null;
            }));
        }
        facts.put("queue beyond the last", code(() -> env.producer.send(message(topic), new MessageQueue(topic, "broker-a", 2))));
        facts.put("pull beyond the last", code(() -> env.reader.pull(new MessageQueue(topic, "broker-a", 2), "*", 0, 1)));
        facts.put("pull before the first", code(() -> env.reader.pull(new MessageQueue(topic, "broker-a", -1), "*", 0, 1)));
        int chosen = env.producer.send(message(topic), new MessageQueue(topic, "broker-a", -1)).getMessageQueue().getQueueId();
        facts.put("the broker chooses", chosen >= 0 && chosen < 2);

        TopicConfig unit = new TopicConfig(env.name("topic-unit"), 1, 1, 6);
        unit.setTopicSysFlag(1);
        env.admin.createAndUpdateTopicConfig(env.brokerAddr(), unit);
        env.createTopic(unit.getTopicName(), 1);
        equal("unit flag of the changed topic", 0,
            env.admin.examineTopicRouteInfo(unit.getTopicName()).getQueueDatas().get(0).getTopicSysFlag());
    }

    static void queueCounts(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("queue-counts");
        env.createTopic(topic, 4);
        for (int i = 0; i < 12; i++) {
            env.producer.send(Env.message(topic, "tag", "old-" + i), new MessageQueue(topic, "broker-a", i % 4));
        }
        // First nobody writes to the last queues any more, but all can be read.
        change(env, topic, 4, 2);
        Env.await("fewer queues to write to", () -> env.producer.fetchPublishMessageQueues(topic).size() == 2);
        facts.put("subscribed with 4/2", env.reader.fetchSubscribeMessageQueues(topic).size());
        TreeSet<Integer> used = new TreeSet<>();
        DefaultMQProducer producer = env.producer("queue-counts");
        producer.start();
        for (int i = 0; i < 8; i++) {
            used.add(producer.send(Env.message(topic, "tag", "new-" + i)).getMessageQueue().getQueueId());
        }
        producer.shutdown();
        facts.put("written with 4/2", used);
        facts.put("straight to queue 3", code(() -> env.producer.send(message(topic), new MessageQueue(topic, "broker-a", 3))));
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("queue-counts");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        Env.await("everything", () -> received.count() == 21);
        // Then they are closed, and with them what is in them.
        change(env, topic, 2, 2);
        Env.await("fewer queues to read", () -> env.reader.fetchSubscribeMessageQueues(topic).size() == 2);
        facts.put("pull of a closed queue", code(() -> env.reader.pull(new MessageQueue(topic, "broker-a", 3), "*", 0, 32)));
        facts.put("send to a closed queue", code(() -> env.producer.send(message(topic), new MessageQueue(topic, "broker-a", 3))));
        // Opened again they have what they had.
        change(env, topic, 6, 6);
        Env.await("more queues", () -> env.reader.fetchSubscribeMessageQueues(topic).size() == 6
            && env.producer.fetchPublishMessageQueues(topic).size() == 6);
        facts.put("queue 3", env.reader.pull(new MessageQueue(topic, "broker-a", 3), "*", 0, 32).getMsgFoundList().stream()
            .map(message -> message.getQueueOffset() + ":" + Env.body(message)).collect(Collectors.toList()));
        facts.put("next offset of queue 3",
            env.producer.send(message(topic), new MessageQueue(topic, "broker-a", 3)).getQueueOffset());
        facts.put("first offset of queue 5",
            env.producer.send(message(topic), new MessageQueue(topic, "broker-a", 5)).getQueueOffset());
        Env.await("messages of new queues", () -> received.count() == 23);
        consumer.shutdown();
        // More to write than to read: the last queue is written to and waits for its readers.
        change(env, topic, 2, 3);
        Env.await("more to write than to read", () -> env.producer.fetchPublishMessageQueues(topic).size() == 3);
        facts.put("send beyond the readers",
            env.producer.send(message(topic), new MessageQueue(topic, "broker-a", 2)).getQueueOffset());
        facts.put("pull beyond the readers", code(() -> env.reader.pull(new MessageQueue(topic, "broker-a", 2), "*", 0, 1)));
    }

    /** Strict order: the order configuration fixes the queues, whatever becomes of the topic. */
    static void orderTopic(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("order-topic");
        env.createTopic(topic, 3);
        env.admin.createOrUpdateOrderConf(topic, "broker-a:3", true);
        Env.await("order configuration", () -> "broker-a:3".equals(env.admin.examineTopicRouteInfo(topic).getOrderTopicConf()));
        Map<Integer, List<Integer>> seen = new ConcurrentHashMap<>();
        DefaultMQPushConsumer first = orderly(env, topic, seen);
        DefaultMQProducer producer = env.producer("order-topic");
        producer.start();
        send(producer, topic, 0, 40);
        DefaultMQPushConsumer second = orderly(env, topic, seen);
        // More queues, which the order configuration does not know.
        change(env, topic, 8, 8);
        Env.await("more queues", () -> env.admin.examineTopicRouteInfo(topic).getQueueDatas().get(0).getWriteQueueNums() == 8);
        TreeSet<Integer> used = send(producer, topic, 40, 80);
        facts.put("queues to write to", producer.fetchPublishMessageQueues(topic).size());
        facts.put("queues used", used);
        first.shutdown();
        send(producer, topic, 80, 100);
        Env.await("all messages", () -> seen.values().stream().mapToInt(List::size).sum() >= 500);
        second.shutdown();
        producer.shutdown();
        List<Integer> all = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            all.add(i);
        }
        for (int sequence = 0; sequence < 5; sequence++) {
            List<Integer> numbers = seen.get(sequence);
            // A takeover may repeat messages, but none may come before one that was sent earlier for the first time.
            List<Integer> firsts = numbers.stream().distinct().collect(Collectors.toList());
            equal("order of sequence " + sequence, all, firsts);
        }
        facts.put("order configuration", env.admin.getKVConfig("ORDER_TOPIC_CONFIG", topic));
        env.admin.deleteKvConfig("ORDER_TOPIC_CONFIG", topic);
        Env.await("no order configuration", () -> env.admin.examineTopicRouteInfo(topic).getOrderTopicConf() == null);
    }

    private static DefaultMQPushConsumer orderly(Env env, String topic, Map<Integer, List<Integer>> seen) throws Exception {
        DefaultMQPushConsumer consumer = env.consumer("order-topic");
        consumer.setInstanceName("order-" + System.nanoTime());
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            for (MessageExt message : messages) {
                String[] parts = Env.body(message).split("-");
                seen.computeIfAbsent(Integer.parseInt(parts[0]), key -> Collections.synchronizedList(new ArrayList<>()))
                    .add(Integer.parseInt(parts[1]));
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    /** Five sequences, each in one queue. */
    private static TreeSet<Integer> send(DefaultMQProducer producer, String topic, int from, int to) throws Exception {
        TreeSet<Integer> used = new TreeSet<>();
        for (int number = from; number < to; number++) {
            for (int sequence = 0; sequence < 5; sequence++) {
                Message message = new Message(topic, (sequence + "-" + number).getBytes(StandardCharsets.UTF_8));
                SendResult sent = producer.send(message,
                    (queues, body, key) -> queues.get((Integer) key % queues.size()), sequence);
                used.add(sent.getMessageQueue().getQueueId());
            }
        }
        return used;
    }

    static void attributes(Env env, Map<String, Object> facts) throws Exception {
        env.needsVersion5();
        String topic = env.name("topic-attributes");
        env.createTopic(topic, 1, Map.of("message.type", "FIFO"));
        for (String change : Arrays.asList("+message.type=DELAY", "+message.type=MIXED", "+message.type=nonsense",
            "+queue.type=BatchCQ", "+cleanup.policy=COMPACTION", "-queue.type", "-message.type", "+nonsense=1",
            "+reserve.time=5", "+message.type=PRIORITY", "+message.type=LITE", "message.type=FIFO")) {
            String[] parts = change.split("=");
            facts.put(change, code(() -> {
                TopicConfig config = new TopicConfig(topic, 1, 1, 6);
                TopicConfig.class.getMethod("setAttributes", Map.class)
                    .invoke(config, new TreeMap<>(Map.of(parts[0], parts.length > 1 ? parts[1] : "")));
                env.admin.createAndUpdateTopicConfig(env.brokerAddr(), config);
                return null;
            }));
        }
        TopicConfig stored = env.admin.examineTopicConfig(env.brokerAddr(), topic);
        facts.put("stored", new TreeMap<>((Map<?, ?>) TopicConfig.class.getMethod("getAttributes").invoke(stored)));
    }

    static void compaction(Env env, Map<String, Object> facts) throws Exception {
        env.needsVersion5();
        String topic = env.name("compaction");
        env.createTopic(topic, 1, Map.of("cleanup.policy", "COMPACTION"));
        MessageQueue queue = new MessageQueue(topic, "broker-a", 0);
        Message keyless = message(topic);
        keyless.setKeys("");
        facts.put("without key", code(() -> env.producer.send(keyless, queue)));
        Map<String, String> expected = new TreeMap<>();
        for (int i = 0; i < 100; i++) {
            Message message = new Message(topic, "tag", "key-" + i * i % 11, ("value-" + i).getBytes(StandardCharsets.UTF_8));
            env.producer.send(message, queue);
            expected.put(message.getKeys(), Env.body(copy(message)));
        }
        Env.await("the newest of each key", () -> newest(env, queue, 0).equals(expected));
        // Long enough for a compaction of OxMQ; the original leaves its newest file alone.
        Thread.sleep(3000);
        equal("newest after a while", expected, newest(env, queue, 0));
        facts.put("newest", expected);
        env.producer.send(new Message(topic, "tag", "key-0", "live".getBytes(StandardCharsets.UTF_8)), queue);
        Env.await("live tail", () -> {
            PullResult pulled = env.reader.pull(queue, "*", 100, 32);
            return pulled.getPullStatus() == PullStatus.FOUND && Env.body(pulled.getMsgFoundList().get(0)).equals("live");
        });
        expected.put("key-0", "live");
        equal("newest with the live tail", expected, newest(env, queue, 0));
        facts.put("maximum", env.reader.maxOffset(queue));
    }

    private static MessageExt copy(Message message) {
        MessageExt result = new MessageExt();
        result.setBody(message.getBody());
        return result;
    }

    private static Map<String, String> newest(Env env, MessageQueue queue, long offset) throws Exception {
        Map<String, String> result = new TreeMap<>();
        long last = -1;
        while (true) {
            PullResult pulled = env.reader.pull(queue, "*", offset, 7);
            if (pulled.getPullStatus() != PullStatus.FOUND) {
                return result;
            }
            for (MessageExt message : pulled.getMsgFoundList()) {
                check(message.getQueueOffset() > last, "offsets fall");
                last = message.getQueueOffset();
                result.put(message.getKeys(), Env.body(message));
            }
            offset = pulled.getNextBeginOffset();
        }
    }

    /** Numbers of queues to read and to write. */
    private static void change(Env env, String topic, int read, int write) throws Exception {
        env.admin.createAndUpdateTopicConfig(env.brokerAddr(), new TopicConfig(topic, read, write, 6));
    }

    private static Message message(String topic) {
        return Env.message(topic, "tag", "any");
    }

    private static Object code(Callable<?> request) throws Exception {
        try {
            request.call();
            return 0;
        } catch (MQBrokerException refusal) {
            return refusal.getResponseCode();
        } catch (MQClientException refusal) {
            return refusal.getCause() == null ? refusal.getResponseCode() : refusal.getCause().getClass().getSimpleName();
        }
    }
}
