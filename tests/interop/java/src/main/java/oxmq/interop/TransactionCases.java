package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.equal;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.RemotingClient;
import org.apache.rocketmq.remoting.exception.RemotingTimeoutException;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** Transactions: their ends, the questions of the broker, and requests that end none. */
final class TransactionCases {
    private static final int END_TRANSACTION = 37;
    private static final int COMMIT = 8;
    private static final int ROLLBACK = 12;
    private static final String CHECK_MAX_TOPIC = "TRANS_CHECK_MAX_TIME_TOPIC";

    private TransactionCases() {
    }

    /** Does what the body says: {@code <answer now>-<answer when asked>-…}. */
    private static final class Script implements TransactionListener {
        final Map<String, Integer> checks = new ConcurrentHashMap<>();
        final Map<String, MessageExt> asked = new ConcurrentHashMap<>();

        @Override
        public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
            return state(new String(message.getBody(), StandardCharsets.UTF_8).split("-")[0]);
        }

        @Override
        public LocalTransactionState checkLocalTransaction(MessageExt message) {
            String body = Env.body(message);
            asked.put(body, message);
            int times = checks.merge(body, 1, Integer::sum);
            String[] answers = body.split("-")[1].split("_");
            return state(answers[Math.min(times, answers.length) - 1]);
        }

        private static LocalTransactionState state(String word) {
            switch (word) {
                case "commit":
                    return LocalTransactionState.COMMIT_MESSAGE;
                case "rollback":
                    return LocalTransactionState.ROLLBACK_MESSAGE;
                default:
                    return LocalTransactionState.UNKNOW;
            }
        }
    }

    private static TransactionMQProducer producer(Env env, String group, String instance, Script script)
        throws Exception {
        TransactionMQProducer result = new TransactionMQProducer(env.name(group));
        result.setNamesrvAddr(env.namesrv);
        result.setInstanceName(instance);
        result.setSendMsgTimeout(10_000);
        result.setTransactionListener(script);
        result.start();
        return result;
    }

    static void ends(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("transaction");
        env.createTopic(topic, 1);
        Script script = new Script();
        TransactionMQProducer producer = producer(env, "transaction", "ends", script);
        List<String> bodies = Arrays.asList("commit-no-1", "rollback-no-1", "unknown-commit-1", "unknown-rollback-1",
            "unknown-unknown_commit-1", "commit-no-2");
        for (String body : bodies) {
            TransactionSendResult sent = producer.sendMessageInTransaction(Env.message(topic, "tag", body), null);
            equal("send status", SendStatus.SEND_OK, sent.getSendStatus());
            equal("transaction id", sent.getMsgId(), sent.getTransactionId());
            equal("queue", 0, sent.getMessageQueue().getQueueId());
        }
        await("checks", () -> script.checks.containsKey("unknown-rollback-1")
            && script.checks.getOrDefault("unknown-unknown_commit-1", 0) >= 2);
        List<MessageExt> stored = env.readAll(topic, 4);
        List<String> found = stored.stream().map(Env::body).sorted().collect(Collectors.toList());
        equal("committed", Arrays.asList("commit-no-1", "commit-no-2", "unknown-commit-1", "unknown-unknown_commit-1"),
            found);
        MessageExt committed = stored.get(0);
        facts.put("properties", Env.propertyNames(committed));
        facts.put("flags", committed.getSysFlag());
        facts.put("prepared-offset", stored.get(1).getPreparedTransactionOffset() > 0);
        MessageExt asked = script.asked.get("unknown-commit-1");
        equal("topic of the question", topic, asked.getTopic());
        equal("key of the question", "key-unknown-commit-1", asked.getKeys());
        facts.put("check-times", script.asked.get("unknown-unknown_commit-1").getProperty("TRANSACTION_CHECK_TIMES"));
        // Nobody is asked about what has ended.
        Thread.sleep(3000);
        facts.put("checks", new java.util.TreeMap<>(script.checks));
        equal("stored at the end", 4L, env.stored(topic));
        producer.shutdown();
    }

    static void otherProducer(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("transaction-other");
        env.createTopic(topic, 1);
        Script lost = new Script();
        Script survivor = new Script();
        TransactionMQProducer first = producer(env, "transaction-other", "first", lost);
        TransactionMQProducer second = producer(env, "transaction-other", "second", survivor);
        // A producer makes itself known to the brokers of the topics that it has sent to.
        second.sendMessageInTransaction(Env.message(topic, "tag", "rollback-no"), null);
        second.getDefaultMQProducerImpl();
        first.sendMessageInTransaction(Env.message(topic, "tag", "unknown-commit"), null);
        first.shutdown();
        List<MessageExt> stored = env.readAll(topic, 1);
        equal("committed", "unknown-commit", Env.body(stored.get(0)));
        equal("asked", Collections.singleton("unknown-commit"), survivor.checks.keySet());
        second.shutdown();
        facts.put("asked-first", lost.checks.size());
    }

    static void checkMax(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("transaction-check-max");
        env.createTopic(topic, 1);
        Script script = new Script();
        TransactionMQProducer producer = producer(env, "transaction-check-max", "check-max", script);
        String body = "unknown-unknown_unknown_unknown_commit-" + topic;
        producer.sendMessageInTransaction(Env.message(topic, "tag", body), null);
        MessageExt[] found = new MessageExt[1];
        await("the message that nobody decides about", () -> {
            found[0] = find(env, CHECK_MAX_TOPIC, body);
            return found[0] != null;
        });
        facts.put("checks", script.checks.get(body));
        facts.put("check-times", found[0].getProperty("TRANSACTION_CHECK_TIMES"));
        equal("real topic", topic, found[0].getProperty("REAL_TOPIC"));
        Thread.sleep(2000);
        facts.put("checks at the end", script.checks.get(body));
        equal("stored", 0L, env.stored(topic));

        // An administrator has it asked about again, and now the producer knows.
        String id = found[0].getMsgId();
        await("the index", () -> env.admin.viewMessage(CHECK_MAX_TOPIC, id) != null);
        facts.put("resumed", env.admin.resumeCheckHalfMessage(CHECK_MAX_TOPIC, id));
        List<MessageExt> committed = env.readAll(topic, 1);
        equal("committed", body, Env.body(committed.get(0)));
        facts.put("checks after that", script.checks.get(body));
        producer.shutdown();
    }

    private static MessageExt find(Env env, String topic, String body) throws Exception {
        for (MessageQueue queue : env.reader.fetchSubscribeMessageQueues(topic)) {
            long end = env.reader.maxOffset(queue);
            for (long offset = 0; offset < end; ) {
                var pulled = env.reader.pull(queue, "*", offset, 32);
                offset = pulled.getNextBeginOffset();
                for (MessageExt message : pulled.getMsgFoundList() == null ? List.<MessageExt>of()
                    : pulled.getMsgFoundList()) {
                    if (Env.body(message).equals(body)) {
                        return message;
                    }
                }
            }
        }
        return null;
    }

    /** Requests by hand, as no client sends them. */
    static void wrongEnds(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("transaction-wrong");
        env.createTopic(topic, 1);
        RemotingClient client = new NettyRemotingClient(new NettyClientConfig());
        client.start();
        String group = env.name("transaction-wrong-nobody");
        SendResult half = half(env, topic, group, "half", null);
        SendResult plain = env.producer.send(Env.message(topic, "tag", "plain"));
        long offset = MessageDecoder.decodeMessageId(half.getOffsetMsgId()).getOffset();
        long plainOffset = MessageDecoder.decodeMessageId(plain.getOffsetMsgId()).getOffset();
        long queueOffset = half.getQueueOffset();
        String id = half.getMsgId();
        facts.put("beyond the log", end(env, client, group, queueOffset, 1L << 50, COMMIT, id));
        facts.put("negative", end(env, client, group, queueOffset, -1, COMMIT, id));
        facts.put("in a record", end(env, client, group, queueOffset, offset + 1, ROLLBACK, id));
        facts.put("no half message", end(env, client, group, queueOffset, plainOffset, ROLLBACK, id));
        facts.put("other group", end(env, client, "other", queueOffset, offset, COMMIT, id));
        facts.put("other queue offset", end(env, client, group, queueOffset + 1, offset, COMMIT, id));
        facts.put("no outcome", end(env, client, group, queueOffset, offset, 5, id));
        facts.put("unknown", end(env, client, group, queueOffset, offset, 0, id));
        equal("stored before", 1L, env.stored(topic));
        facts.put("commit", end(env, client, group, queueOffset, offset, COMMIT, id));
        List<MessageExt> stored = env.readAll(topic, 2);
        equal("committed", "half", Env.body(stored.get(1)));

        SendResult immune = half(env, topic, group, "immune", "1");
        Thread.sleep(2300);
        long immuneOffset = MessageDecoder.decodeMessageId(immune.getOffsetMsgId()).getOffset();
        facts.put("too late", end(env, client, group, immune.getQueueOffset(), immuneOffset, COMMIT,
            immune.getMsgId()));
        equal("stored at the end", 2L, env.stored(topic));
        client.shutdown();
    }

    private static SendResult half(Env env, String topic, String group, String body, String immunity)
        throws Exception {
        Message message = Env.message(topic, "tag", body);
        MessageAccessor.putProperty(message, "TRAN_MSG", "true");
        MessageAccessor.putProperty(message, "PGROUP", group);
        if (immunity != null) {
            message.putUserProperty("CHECK_IMMUNITY_TIME_IN_SECONDS", immunity);
        }
        return env.producer.send(message);
    }

    /** The code of the answer, or that there is none. */
    private static String end(Env env, RemotingClient client, String group, long queueOffset, long offset, int outcome,
        String id) throws Exception {
        RemotingCommand request = RemotingCommand.createRequestCommand(END_TRANSACTION, null);
        request.addExtField("producerGroup", group);
        request.addExtField("tranStateTableOffset", Long.toString(queueOffset));
        request.addExtField("commitLogOffset", Long.toString(offset));
        request.addExtField("commitOrRollback", Integer.toString(outcome));
        request.addExtField("fromTransactionCheck", "false");
        request.addExtField("msgId", id);
        request.addExtField("transactionId", id);
        try {
            return Integer.toString(client.invokeSync(env.brokerAddr(), request, 1000).getCode());
        } catch (RemotingTimeoutException none) {
            return "no answer";
        }
    }
}
