package oxmq.interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.store.OffsetStore;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** What all cases share: one producer, one reader, one admin client, names, waiting and checking. */
final class Env {
    private static final long DEADLINE_SECONDS = 120;

    final String namesrv;
    final DefaultMQProducer producer;
    final DefaultMQAdminExt admin;
    final DefaultMQPullConsumer reader;
    private final String label;

    Env(String namesrv, String label) throws Exception {
        this.namesrv = namesrv;
        this.label = label;
        producer = producer("shared");
        producer.start();
        admin = new DefaultMQAdminExt(10_000);
        admin.setNamesrvAddr(namesrv);
        admin.setAdminExtGroup("admin-" + label);
        admin.start();
        reader = new DefaultMQPullConsumer("reader-" + label);
        reader.setNamesrvAddr(namesrv);
        reader.start();
    }

    /** Topic or group of a case: the label keeps clients on one server apart. */
    String name(String part) {
        return label + "_" + part;
    }

    /** Arguments of a program of the documentation, with a topic for this client alone. */
    String[] docs(String topic) {
        return new String[] {namesrv, name(topic)};
    }

    DefaultMQProducer producer(String group) {
        DefaultMQProducer result = new DefaultMQProducer(name(group));
        result.setNamesrvAddr(namesrv);
        result.setSendMsgTimeout(10_000);
        return result;
    }

    DefaultMQPushConsumer consumer(String group) {
        DefaultMQPushConsumer result = new DefaultMQPushConsumer(name(group));
        result.setNamesrvAddr(namesrv);
        result.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // A topic made a moment ago, its own retry topic above all, would be found after 30 s only.
        result.setPollNameServerInterval(1000);
        result.setConsumeThreadMin(2);
        result.setConsumeThreadMax(2);
        return result;
    }

    /** Stops the consumer once it has noted that this many messages of the topic are consumed. */
    void shutdown(DefaultMQPushConsumer consumer, String topic, long messages) throws Exception {
        OffsetStore offsets = consumer.getDefaultMQPushConsumerImpl().getOffsetStore();
        await("consumer offsets", () -> {
            long sum = 0;
            for (MessageQueue queue : reader.fetchSubscribeMessageQueues(topic)) {
                sum += Math.max(0, offsets.readOffset(queue, ReadOffsetType.READ_FROM_MEMORY));
            }
            return sum >= messages;
        });
        consumer.shutdown();
    }

    void send(String topic, String prefix, int count) throws Exception {
        for (String body : bodies(prefix, count)) {
            SendResult result = producer.send(message(topic, "tag", body));
            equal("send status", SendStatus.SEND_OK, result.getSendStatus());
        }
    }

    static Message message(String topic, String tag, String body) {
        return new Message(topic, tag, "key-" + body, body.getBytes(StandardCharsets.UTF_8));
    }

    /** The bodies that {@link #send} sends. */
    static List<String> bodies(String prefix, int count) {
        List<String> result = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            result.add(String.format("%s-%03d", prefix, i));
        }
        return result;
    }

    static String body(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }

    static Collection<String> propertyNames(MessageExt message) {
        return new TreeSet<>(message.getProperties().keySet());
    }

    String brokerAddr() throws Exception {
        return admin.examineBrokerClusterInfo().getBrokerAddrTable().values().iterator().next().selectBrokerAddr();
    }

    /** The client does not have what the case is about. */
    static final class Skipped extends Exception {
    }

    /** For features of 5.x clients. The sources are built against 4.9 as well: what only 5.x has needs reflection. */
    void needsVersion5() throws Skipped {
        if (MQVersion.CURRENT_VERSION < MQVersion.Version.V5_0_0.ordinal()) {
            throw new Skipped();
        }
    }

    /** Creates a topic with these attributes, which 5.x clients have, and waits for its route. */
    void createTopic(String topic, int queues, Map<String, String> attributes) throws Exception {
        TopicConfig config = new TopicConfig(topic, queues, queues, 6);
        Map<String, String> changes = new HashMap<>();
        attributes.forEach((key, value) -> changes.put("+" + key, value));
        TopicConfig.class.getMethod("setAttributes", Map.class).invoke(config, changes);
        admin.createAndUpdateTopicConfig(brokerAddr(), config);
        createTopic(topic, queues);
    }

    void createTopic(String topic, int queues) throws Exception {
        createTopic(topic, queues, 6);
    }

    /**
     * Creates or changes a topic and waits until the name server says so. The original's name server can overlook a
     * change that its broker registers at the same moment as another, because both carry the same data version; then
     * the topic has to change once more.
     */
    void createTopic(String topic, int queues, int perm) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_SECONDS);
        do {
            admin.createAndUpdateTopicConfig(brokerAddr(), new TopicConfig(topic, queues, queues, perm));
            for (int attempt = 0; attempt < 60; attempt++) {
                if (isRouted(topic, queues, perm)) {
                    return;
                }
                Thread.sleep(50);
            }
            admin.createAndUpdateTopicConfig(brokerAddr(), new TopicConfig(topic, queues + 1, queues + 1, perm));
        } while (System.nanoTime() < deadline);
        throw new AssertionError("waited in vain for the route of " + topic);
    }

    private boolean isRouted(String topic, int queues, int perm) throws Exception {
        try {
            var route = admin.examineTopicRouteInfo(topic).getQueueDatas().get(0);
            return route.getReadQueueNums() == queues && route.getPerm() == perm;
        } catch (MQClientException none) {
            return false;
        }
    }

    /**
     * Everything in the topic, queue by queue in order, once it is as many messages as expected. (A message can be
     * pulled a moment after it has been acknowledged.)
     */
    List<MessageExt> readAll(String topic, int expected) throws Exception {
        List<MessageExt> result = new ArrayList<>();
        await(expected + " messages in " + topic, () -> {
            result.clear();
            for (MessageQueue queue : new TreeSet<>(reader.fetchSubscribeMessageQueues(topic))) {
                readQueue(queue, result);
            }
            return result.size() >= expected;
        });
        equal("messages in " + topic, expected, result.size());
        return result;
    }

    private void readQueue(MessageQueue queue, List<MessageExt> result) throws Exception {
        PullResult pulled;
        long offset = 0;
        do {
            pulled = reader.pull(queue, "*", offset, 32);
            offset = pulled.getNextBeginOffset();
            if (pulled.getPullStatus() == PullStatus.FOUND) {
                result.addAll(pulled.getMsgFoundList());
            }
        } while (pulled.getPullStatus() == PullStatus.FOUND);
    }

    /** Number of messages ever stored in the topic; 0 while it has no route. */
    long stored(String topic) throws Exception {
        long result = 0;
        for (MessageQueue queue : reader.fetchSubscribeMessageQueues(topic)) {
            result += reader.maxOffset(queue);
        }
        return result;
    }

    /** Polls; an exception counts as "not yet". */
    static void await(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_SECONDS);
        Exception last = null;
        while (System.nanoTime() < deadline) {
            try {
                if (condition.call()) {
                    return;
                }
            } catch (Exception e) {
                last = e;
            }
            Thread.sleep(50);
        }
        throw new AssertionError("waited in vain for " + what, last);
    }

    static void equal(String what, Object expected, Object actual) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + actual);
        }
    }

    static void check(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }
}
