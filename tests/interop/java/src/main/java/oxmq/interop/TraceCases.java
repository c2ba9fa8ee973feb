package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.trace.TraceContext;
import org.apache.rocketmq.client.trace.TraceView;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Traces of the Java and of the Rust client, read with Java's decoder; one has to say what the other says. */
final class TraceCases {
    private static final String BODY = "traced body";

    private TraceCases() {
    }

    static void trace(Env env, Map<String, Object> facts) throws Exception {
        env.needsVersion5();
        TraceReader.prepare(env.namesrv);
        List<List<String>> java = java(env);
        facts.put("sent and consumed twice", java.get(0));
        facts.put("committed", java.get(1));
        facts.put("by key", java.get(2));
        equal("traces of the Rust client", java, rust(env));
    }

    private static List<List<String>> java(Env env) throws Exception {
        String topic = env.name("trace-java");
        env.createTopic(topic, 1);
        String sent = send(env, topic);
        String committed = commit(env, topic);
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(env.name("trace-java"));
        traced(consumer);
        consumer.setNamesrvAddr(env.namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        Received received = new Received();
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        await("both messages", () -> received.count() == 2);
        poll(env, topic, 2);
        consumer.shutdown();
        return List.of(shapes(env, sent, 5), shapes(env, committed, 6), views(env, sent, 5));
    }

    /** The Rust client does the same. */
    private static List<List<String>> rust(Env env) throws Exception {
        String topic = env.name("trace-rust");
        env.createTopic(topic, 1);
        String sent;
        String committed;
        try (Peer rust = Peer.start("send", env.namesrv, "trace", topic, BODY)) {
            sent = rust.await("sent").split(" ")[1];
        }
        try (Peer rust = Peer.start("commit", env.namesrv, "trace", topic, BODY)) {
            committed = rust.await("sent").split(" ")[1];
        }
        for (String role : List.of("consume", "poll")) {
            try (Peer rust = Peer.start(role, env.namesrv, "trace", topic, env.name("trace-rust-" + role))) {
                rust.await("got");
                rust.await("got");
            }
        }
        return List.of(shapes(env, sent, 5), shapes(env, committed, 6), views(env, sent, 5));
    }

    private static Message message(String topic) {
        Message message = new Message(topic, "tag", BODY.getBytes());
        message.setKeys("key-1 key-2");
        return message;
    }

    /** By reflection, as clients before 5.0 take it with their constructors only. */
    private static void traced(ClientConfig client) throws Exception {
        client.getClass().getMethod("setEnableTrace", boolean.class).invoke(client, true);
    }

    private static String send(Env env, String topic) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(env.name("trace-java"));
        traced(producer);
        producer.setNamesrvAddr(env.namesrv);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        String id = producer.send(message(topic)).getMsgId();
        producer.shutdown();
        return id;
    }

    private static String commit(Env env, String topic) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(env.name("trace-java-commit"));
        traced(producer);
        producer.setNamesrvAddr(env.namesrv);
        producer.setSendMsgTimeout(10_000);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                return LocalTransactionState.COMMIT_MESSAGE;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        producer.start();
        String id = producer.sendMessageInTransaction(message(topic), null).getMsgId();
        producer.shutdown();
        return id;
    }

    private static void poll(Env env, String topic, int count) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(env.name("trace-java-poll"));
        consumer.setNamesrvAddr(env.namesrv);
        traced(consumer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.start();
        List<MessageExt> polled = new ArrayList<>();
        await("polled messages", () -> {
            polled.addAll(consumer.poll(1000));
            return polled.size() >= count;
        });
        consumer.shutdown();
    }

    private static List<String> shapes(Env env, String msgId, int count) throws Exception {
        List<String> shapes = new ArrayList<>();
        for (TraceContext context : TraceReader.contexts(env.namesrv, msgId, count)) {
            check(context.getTimeStamp() > 0, "a record has a time");
            shapes.add(TraceReader.shape(env, context));
        }
        shapes.sort(null);
        return shapes;
    }

    /** What {@code mqadmin queryMsgTraceById} shows, without times, hosts and names. */
    private static List<String> views(Env env, String msgId, int count) throws Exception {
        List<String> views = new ArrayList<>();
        await("traces by key", () -> {
            QueryResult found = env.admin.queryMessage(TraceReader.TOPIC, msgId, 64, 0, Long.MAX_VALUE);
            views.clear();
            for (MessageExt message : found.getMessageList()) {
                for (TraceView view : TraceView.decodeFromTraceTransData(msgId, message)) {
                    equal("id", msgId, view.getMsgId());
                    views.add(view.getMsgType() + " " + view.getStatus() + " " + view.getTags() + " " + view.getKeys());
                }
            }
            return views.size() >= count;
        });
        views.sort(null);
        return views;
    }
}
