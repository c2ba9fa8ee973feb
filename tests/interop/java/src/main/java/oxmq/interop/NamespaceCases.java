package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.equal;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Topics and groups of a namespace, for clients of both kinds. */
final class NamespaceCases {
    private static final String NAMESPACE = "shop";

    private NamespaceCases() {
    }

    /** What the servers know of a Java client with a namespace. */
    static void names(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("namespaces");
        env.createTopic(wrapped(topic), 2);
        DefaultMQProducer producer = producer(env, "namespaces");
        facts.put("queues", queues(env, producer.fetchPublishMessageQueues(topic)));
        SendResult sent = producer.send(Env.message(topic, "tag", "single"));
        facts.put("sent to", plain(env, sent.getMessageQueue().getTopic()));
        SendResult batch = producer.send(Arrays.asList(Env.message(topic, "tag", "b-1"), Env.message(topic, "tag", "b-2")));
        facts.put("batch sent to", plain(env, batch.getMessageQueue().getTopic()));
        for (MessageExt stored : env.readAll(wrapped(topic), 3)) {
            facts.put("stored " + Env.body(stored), Arrays.asList(plain(env, stored.getTopic()),
                stored.getProperty("INSTANCE_ID"), Env.propertyNames(stored)));
        }
        Received received = new Received();
        Set<String> attempts = new TreeSet<>();
        DefaultMQPushConsumer consumer = consumer(env, "namespaces");
        consumer.subscribe(topic, "*");
        consumer.setMaxReconsumeTimes(0);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            received.add(messages);
            attempts.add(plain(env, messages.get(0).getTopic()));
            return Env.body(messages.get(0)).equals("single") ? ConsumeConcurrentlyStatus.RECONSUME_LATER
                : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        received.awaitExactly("messages of the namespace", List.of("b-1", "b-2", "single"));
        facts.put("consumed from", attempts);
        MessageExt dead = env.readAll("%DLQ%" + wrapped(env.name("namespaces")), 1).get(0);
        facts.put("dead", Arrays.asList(plain(env, dead.getTopic()), plain(env, dead.getProperty("RETRY_TOPIC")),
            Env.propertyNames(dead)));
        facts.put("members", env.admin.examineConsumerConnectionInfo(wrapped(env.name("namespaces"))).getSubscriptionTable()
            .keySet().stream().map(name -> plain(env, name)).collect(java.util.stream.Collectors.toCollection(TreeSet::new)));
        consumer.shutdown();
        producer.shutdown();
    }

    /** A Java and a Rust client of one namespace, both directions. */
    static void withRust(Env env, Map<String, Object> facts) throws Exception {
        String options = "namespace=" + NAMESPACE;
        String topic = env.name("namespaces-rust");
        env.createTopic(wrapped(topic), 1);
        DefaultMQProducer producer = producer(env, "namespaces-rust");
        producer.send(Env.message(topic, "tag", "java to rust"));
        producer.send(Env.message(topic, "tag", "fail in rust"));
        try (Peer rust = Peer.start("consume", env.namesrv, options, topic, env.name("rust-group"))) {
            Set<String> got = new TreeSet<>();
            for (int i = 0; i < 2; i++) {
                got.add(plain(env, rust.await("got")));
            }
            facts.put("got by rust", got);
            MessageExt dead = env.readAll("%DLQ%" + wrapped(env.name("rust-group")), 1).get(0);
            facts.put("dead", Arrays.asList(Env.body(dead), plain(env, dead.getProperty("RETRY_TOPIC"))));
        }
        String back = env.name("namespaces-from-rust");
        env.createTopic(wrapped(back), 1);
        try (Peer rust = Peer.start("send", env.namesrv, options, back, "rust to java")) {
            equal("topic of the result", back, rust.await("sent").split(" ")[0]);
        }
        MessageExt stored = env.readAll(wrapped(back), 1).get(0);
        facts.put("stored by rust", Arrays.asList(stored.getProperty("INSTANCE_ID"), Env.propertyNames(stored)));
        Received received = new Received();
        DefaultMQPushConsumer consumer = consumer(env, "namespaces-from-rust");
        consumer.subscribe(back, "tag");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        await("the message", () -> received.count() == 1);
        equal("topic", back, received.messages().get(0).getTopic());
        consumer.shutdown();
        producer.shutdown();
    }

    @SuppressWarnings("deprecation")
    private static DefaultMQProducer producer(Env env, String group) throws Exception {
        DefaultMQProducer producer = env.producer(group);
        producer.setNamespace(NAMESPACE);
        producer.start();
        return producer;
    }

    @SuppressWarnings("deprecation")
    private static DefaultMQPushConsumer consumer(Env env, String group) {
        DefaultMQPushConsumer consumer = env.consumer(group);
        consumer.setNamespace(NAMESPACE);
        return consumer;
    }

    private static String wrapped(String name) {
        return NAMESPACE + "%" + name;
    }

    /** Without what tells clients apart. */
    private static String plain(Env env, String name) {
        return name.replace(env.name(""), "");
    }

    private static Object queues(Env env, List<MessageQueue> queues) {
        return queues.stream().map(queue -> plain(env, queue.getTopic()) + " " + queue.getQueueId()).sorted()
            .collect(java.util.stream.Collectors.toList());
    }
}
