package oxmq.interop;

import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.RemotingClient;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** Expressions over properties. */
final class FilterCases {
    private static final int PULL_MESSAGE = 11;
    private static final int HEART_BEAT = 34;
    private static final int CHECK_CLIENT_CONFIG = 46;

    /** Properties of the messages; the body of each is its number. */
    private static final String[] MESSAGES = {
        "", "a=5", "a=12 b=x", "a=-3 b=true", "b=xyz", "a=7.5 c=2", "a=abc b=x", "a=1000000000000", "c=2 b=false d='", "a= b=y",
    };

    private static final String[] EXPRESSIONS = {
        "a > 5", "a >= 5 AND a <= 12", "a BETWEEN 5 AND 12", "a NOT BETWEEN 5 AND 12", "a = 5", "a <> 5", "5 <> a", "a = '5'", "a > 5.5",
        "a > 5L", "a IS NULL", "a IS NOT NULL", "NOT (a = 5)", "a IS NULL OR a = 5", "a = 5 OR b = 'x'", "b IN ('x', 'y')",
        "b NOT IN ('x', 'y')", "b = TRUE", "TRUE = b", "b <> FALSE", "a", "NOT a", "-a > 3", "a > c", "a = c", "a = nothing",
        "nothing = nothing", "TAGS = 'even' AND b IS NOT NULL", "KEYS IS NOT NULL", "d = ''''", "TRUE", "FALSE OR a = 5",
        "a = 5 -- and so on", "/* all */ b = 'x'", "a = 5 ignored", "((a) = (5))",
    };
    private static final String[] SEARCHES = {
        "b CONTAINS 'y'", "b NOT CONTAINS 'y'", "b STARTSWITH 'x'", "b ENDSWITH 'z'", "b NOT STARTSWITH 'x'", "b CONTAINS ''",
        "nothing NOT ENDSWITH 'z'",
    };
    private static final String[] WRONG = {
        "a >", "a > 'x'", "a = NULL", "5 IN ('x')", "a BETWEEN 9 AND 3", "a LIKE 'x%'", "a = 'x", "a = 0.0", "a = 99999999999999999999",
        "a != 5", "5", "(a = 5", "a NOT 5",
    };

    private FilterCases() {
    }

    private static void send(Env env, String topic) throws Exception {
        for (int i = 0; i < MESSAGES.length; i++) {
            Message message = Env.message(topic, i % 2 == 0 ? "even" : "odd", Integer.toString(i));
            for (String property : MESSAGES[i].split(" ")) {
                String[] pair = property.split("=", 2);
                if (pair.length == 2 && !pair[1].isEmpty()) {
                    message.putUserProperty(pair[0], pair[1]);
                }
            }
            env.producer.send(message);
        }
    }

    /** Pulls that bring their expression along: what each takes. */
    static void pulls(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("filter-sql");
        env.createTopic(topic, 1);
        send(env, topic);
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(env.name("filter-sql"));
        consumer.setNamesrvAddr(env.namesrv);
        consumer.start();
        MessageQueue queue = consumer.fetchSubscribeMessageQueues(topic).iterator().next();
        // Only after a heartbeat does the client know that the broker is new enough.
        consumer.pull(queue, "*", 0, 1);
        Env.await("the version of the broker", () -> {
            consumer.getDefaultMQPullConsumerImpl().getRebalanceImpl().getmQClientFactory().sendHeartbeatToAllBrokerWithLock();
            consumer.pull(queue, MessageSelector.bySql("TRUE"), 0, 1);
            return true;
        });
        List<String> expressions = new ArrayList<>(List.of(EXPRESSIONS));
        // The server decides about these, whatever the client.
        expressions.addAll(List.of(SEARCHES));
        for (String expression : expressions) {
            PullResult result = consumer.pull(queue, MessageSelector.bySql(expression), 0, 32);
            List<String> bodies = result.getMsgFoundList() == null ? List.of()
                : result.getMsgFoundList().stream().map(Env::body).collect(Collectors.toList());
            facts.put(expression, result.getPullStatus() + " " + bodies + " " + result.getNextBeginOffset());
        }
        PullResult tags = consumer.pull(queue, MessageSelector.byTag("even || other"), 0, 32);
        equal("tags", 5, tags.getMsgFoundList().size());
        consumer.shutdown();
    }

    /** Subscriptions: the past, then live messages out of pulls that wait through others. */
    static void push(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("filter-sql-push");
        env.createTopic(topic, 2);
        send(env, topic);
        send(env, topic);
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("filter-sql-push");
        consumer.subscribe(topic, MessageSelector.bySql("a > 5.5 AND (b IS NULL OR b <> 'y')"));
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        received.awaitExactly("past messages", List.of("2", "2", "5", "5", "7", "7"));
        for (int i = 0; i < 200; i++) {
            Message message = Env.message(topic, "tag", "live-" + i);
            message.putUserProperty("a", i % 50 == 25 ? "6" : "1");
            env.producer.send(message);
        }
        List<String> all = new ArrayList<>(List.of("2", "2", "5", "5", "7", "7", "live-25", "live-75", "live-125", "live-175"));
        received.awaitExactly("live messages", all);
        consumer.subscribe(topic, MessageSelector.bySql("a = 100"));
        consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().sendHeartbeatToAllBrokerWithLock();
        // Pulls that wait know the old expression only; whatever they bring is no match for the new one.
        Message other = Env.message(topic, "tag", "changed");
        other.putUserProperty("a", "100");
        Env.await("a message by the changed expression", () -> {
            env.producer.send(other);
            return received.bodies().contains("changed");
        });
        consumer.shutdown();

        DefaultLitePullConsumer lite = new DefaultLitePullConsumer(env.name("filter-sql-lite"));
        lite.setNamesrvAddr(env.namesrv);
        lite.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        lite.subscribe(topic, MessageSelector.bySql("b IN ('x', 'xyz')"));
        lite.start();
        List<MessageExt> polled = new ArrayList<>();
        Env.await("messages of the lite consumer", () -> {
            polled.addAll(lite.poll(500));
            return polled.size() >= 6;
        });
        facts.put("lite", polled.stream().map(Env::body).sorted().collect(Collectors.toList()));
        lite.shutdown();
    }

    /** What is refused, and with which code. */
    static void refused(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("filter-sql-refused");
        String group = env.name("filter-sql-refused");
        env.createTopic(topic, 1);
        send(env, topic);
        DefaultMQPushConsumer consumer = env.consumer("filter-sql-wrong");
        consumer.subscribe(topic, MessageSelector.bySql("a >"));
        consumer.registerMessageListener(new Received().concurrently());
        try {
            consumer.start();
            throw new AssertionError("a wrong expression was accepted");
        } catch (MQClientException refusal) {
            facts.put("push consumer", refusal.getResponseCode());
        }
        RemotingClient client = new NettyRemotingClient(new NettyClientConfig());
        client.start();
        String addr = env.brokerAddr();
        Map<String, Object> codes = new TreeMap<>();
        for (String expression : WRONG) {
            codes.put(expression, ask(client, addr, subscription(topic, "SQL92", expression, 1)));
        }
        facts.put("checked", codes);
        facts.put("right", ask(client, addr, subscription(topic, "SQL92", "a = 5", 1)));
        facts.put("other type", ask(client, addr, subscription(topic, "XPATH", "a = 5", 1)));
        facts.put("tags", ask(client, addr, subscription(topic, "TAG", "a || b", 1)));

        facts.put("offline", pull(client, addr, group, topic, 1));
        heartbeat(client, addr, group, subscription(topic, "SQL92", "a =", 5));
        facts.put("wrong by heartbeat", pull(client, addr, group, topic, 5));
        heartbeat(client, addr, group, subscription(topic, "SQL92", "a = 5", 6));
        facts.put("right by heartbeat", pull(client, addr, group, topic, 6));
        facts.put("newer than known", pull(client, addr, group, topic, 7));
        heartbeat(client, addr, group, subscription(topic, "SQL92", "a = 12", 6));
        facts.put("same version", pull(client, addr, group, topic, 6));
        heartbeat(client, addr, group, subscription(topic, "SQL92", "a = 12 AND", 8));
        facts.put("wrong after right", pull(client, addr, group, topic, 8));
        heartbeat(client, addr, group, subscription(topic, "XPATH", "a = 12", 9));
        facts.put("other type by heartbeat", pull(client, addr, group, topic, 9));
        heartbeat(client, addr, group, subscription(topic, "TAG", "even", 10));
        facts.put("tags by heartbeat", pull(client, addr, group, topic, 10));
        client.shutdown();
    }

    private static String subscription(String topic, String type, String expression, long version) {
        String codes = type.equals("TAG") ? Integer.toString(expression.hashCode()) : "";
        return String.format("{\"classFilterMode\":false,\"codeSet\":[%s],\"expressionType\":\"%s\",\"subString\":\"%s\","
            + "\"subVersion\":%d,\"tagsSet\":[],\"topic\":\"%s\"}", codes, type, expression, version, topic);
    }

    private static String ask(RemotingClient client, String addr, String subscription) throws Exception {
        RemotingCommand request = RemotingCommand.createRequestCommand(CHECK_CLIENT_CONFIG, null);
        String body = "{\"clientId\":\"raw\",\"group\":\"raw\",\"subscriptionData\":" + subscription + "}";
        request.setBody(body.getBytes(StandardCharsets.UTF_8));
        RemotingCommand answer = client.invokeSync(addr, request, 5000);
        check(answer.getCode() != 0 || answer.getRemark() == null, "success with a remark");
        return Integer.toString(answer.getCode());
    }

    private static void heartbeat(RemotingClient client, String addr, String group, String subscription) throws Exception {
        RemotingCommand request = RemotingCommand.createRequestCommand(HEART_BEAT, null);
        String body = "{\"clientID\":\"raw-" + group + "\",\"consumerDataSet\":[{\"consumeFromWhere\":\"CONSUME_FROM_FIRST_OFFSET\","
            + "\"consumeType\":\"CONSUME_PASSIVELY\",\"groupName\":\"" + group + "\",\"messageModel\":\"CLUSTERING\","
            + "\"subscriptionDataSet\":[" + subscription + "],\"unitMode\":false}],\"producerDataSet\":[]}";
        request.setBody(body.getBytes(StandardCharsets.UTF_8));
        equal("heartbeat", 0, client.invokeSync(addr, request, 5000).getCode());
    }

    /** The code of a pull by the subscription of the group, the first words of its remark, and the offset after it. */
    private static String pull(RemotingClient client, String addr, String group, String topic, long version) throws Exception {
        RemotingCommand request = RemotingCommand.createRequestCommand(PULL_MESSAGE, null);
        String[] fields = {"consumerGroup", group, "topic", topic, "queueId", "0", "queueOffset", "0", "maxMsgNums", "32", "sysFlag", "0",
            "commitOffset", "0", "suspendTimeoutMillis", "0", "subVersion", Long.toString(version), "expressionType", "SQL92"};
        for (int i = 0; i < fields.length; i += 2) {
            request.addExtField(fields[i], fields[i + 1]);
        }
        RemotingCommand answer = client.invokeSync(addr, request, 5000);
        String remark = answer.getRemark();
        Map<String, String> fieldsOfAnswer = answer.getExtFields() == null ? Map.of() : answer.getExtFields();
        return answer.getCode() + " " + remark.substring(0, Math.min(40, remark.length())) + " "
            + fieldsOfAnswer.get("nextBeginOffset") + " " + (answer.getBody() == null ? 0 : answer.getBody().length > 0);
    }
}
