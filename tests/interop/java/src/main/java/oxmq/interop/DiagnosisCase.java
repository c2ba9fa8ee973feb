package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.equal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageClientIDSetter;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;

/** What {@code oxmq explain} and {@code oxmq doctor} say of a cluster, which may be one of the original. */
final class DiagnosisCase {
    /** What doctor finds on the machine of the test is not the cluster's. */
    private static final Pattern HOST_CHECKS = Pattern.compile("disk-full|inodes-.*|store-(read-only|on-network|in-memory)"
        + "|mount-.*|dirty-.*|swap.*|max-map-count|open-files.*|clock-not-.*");
    private static final int LAG = 1500;
    private static final int TWO_HOURS = 18;
    private static final int TO_DEAD_LETTERS = -1;

    private final Env env;
    private final Map<String, Object> facts;
    private final String topic;
    private final String group;

    private DiagnosisCase(Env env, Map<String, Object> facts) {
        this.env = env;
        this.facts = facts;
        topic = env.name("diagnosis");
        group = env.name("explained");
    }

    static void run(Env env, Map<String, Object> facts) throws Exception {
        DiagnosisCase diagnosis = new DiagnosisCase(env, facts);
        env.createTopic(diagnosis.topic, 4);
        DefaultMQPushConsumer consumer = diagnosis.consumer();
        Map<String, SendResult> sent = diagnosis.send();
        await("offsets", () -> {
            consumer.getDefaultMQPushConsumerImpl().persistConsumerOffset();
            return env.admin.examineConsumeStats(diagnosis.group, diagnosis.topic).computeTotalDiff() == 0;
        });
        equal("findings of a healthy cluster", List.of(), diagnosis.doctor());
        diagnosis.explain(sent);
        consumer.shutdown();
        diagnosis.trouble();
    }

    /** Consumes what it is told to by the body. */
    private DefaultMQPushConsumer consumer() throws Exception {
        DefaultMQPushConsumer consumer = env.consumer("explained");
        consumer.subscribe(topic, "tag");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            switch (Env.body(messages.get(0))) {
                case "retried":
                    context.setDelayLevelWhenNextConsume(TWO_HOURS);
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                case "dead":
                    context.setDelayLevelWhenNextConsume(TO_DEAD_LETTERS);
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                default:
                    return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
        });
        consumer.start();
        return consumer;
    }

    private Map<String, SendResult> send() throws Exception {
        Map<String, SendResult> sent = new LinkedHashMap<>();
        MessageQueue queue = new MessageQueue(topic, "broker-a", 0);
        for (String body : List.of("seen", "retried", "dead")) {
            sent.put(body, env.producer.send(Env.message(topic, "tag", body), queue));
        }
        sent.put("filtered", env.producer.send(Env.message(topic, "other", "filtered"), queue));
        Message level = Env.message(topic, "tag", "level");
        level.setDelayTimeLevel(TWO_HOURS);
        sent.put("level", env.producer.send(level, queue));
        Message timer = Env.message(topic, "tag", "timer");
        MessageAccessor.putProperty(timer, "TIMER_DELAY_SEC", "7200");
        sent.put("timer", env.producer.send(timer, queue));
        TransactionMQProducer producer = new TransactionMQProducer(env.name("undecided"));
        producer.setNamesrvAddr(env.namesrv);
        producer.setSendMsgTimeout(10_000);
        producer.setTransactionListener(new Undecided());
        producer.start();
        sent.put("half", producer.sendMessageInTransaction(Env.message(topic, "tag", "half"), null));
        producer.shutdown();
        return sent;
    }

    private static final class Undecided implements TransactionListener {
        @Override
        public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
            return LocalTransactionState.UNKNOW;
        }

        @Override
        public LocalTransactionState checkLocalTransaction(MessageExt message) {
            return LocalTransactionState.UNKNOW;
        }
    }

    private void explain(Map<String, SendResult> sent) throws Exception {
        explain("seen", sent.get("seen").getMsgId(), "stored", "past");
        explain("seen, by its key", "key-seen", "stored", "past");
        explain("seen, by its offset id", sent.get("seen").getOffsetMsgId(), "stored", "past");
        explain("filtered", sent.get("filtered").getMsgId(), "stored", "filtered");
        explain("retried", sent.get("retried").getMsgId(), "stored", "retrying");
        explain("dead", sent.get("dead").getMsgId(), "stored", "dead-letter");
        explain("level", sent.get("level").getMsgId(), "waiting", "not-yet");
        explain("timer", sent.get("timer").getMsgId(), "waiting", "not-yet");
        explain("half", sent.get("half").getMsgId(), "transaction-pending", "not-yet");
        explain("unknown", MessageClientIDSetter.createUniqID(), "not-found", null);
    }

    /** An index entry or a copy may come a moment after the message. */
    private void explain(String what, String message, String state, String verdict) throws Exception {
        List<String> last = new ArrayList<>();
        try {
            await("what explain says", () -> {
                Map<String, Object> answer = oxmq("explain", message, "-g", group);
                last.add(answer.toString());
                List<Map<String, Object>> groups = list(answer, "groups");
                boolean isIt = state.equals(answer.get("state"))
                    && (verdict == null ? groups.isEmpty() : groups.size() == 1 && verdict.equals(groups.get(0).get("verdict")));
                if (isIt) {
                    equal("not asked of " + what, List.of(), answer.get("notAsked"));
                    Map<String, Object> seen = new TreeMap<>(answer);
                    seen.keySet().retainAll(List.of("exit code", "state", "indexed", "duplicates"));
                    groups.forEach(one -> one.keySet().removeAll(List.of("why", "group")));
                    seen.put("groups", groups);
                    seen.put("sections", list(answer, "sections").stream().map(section -> section.get("title")).collect(Collectors.toList()));
                    facts.put(what, seen);
                }
                return isIt;
            });
        } catch (AssertionError inVain) {
            throw new AssertionError(what + " is to be " + state + ", " + verdict + ": " + last.get(last.size() - 1), inVain);
        }
    }

    /** A group whose members want different messages, and one that is behind and has no member. */
    private void trouble() throws Exception {
        String topic = env.name("trouble");
        env.createTopic(topic, 4);
        env.send(topic, "old", 4);
        DefaultMQPushConsumer late = env.consumer("late");
        Received received = new Received();
        late.subscribe(topic, "*");
        late.registerMessageListener(received.concurrently());
        late.start();
        received.awaitExactly("old messages", Env.bodies("old", 4));
        env.shutdown(late, topic, 4);
        for (int batch = 0; batch < LAG / 100; batch++) {
            List<Message> messages = new ArrayList<>();
            for (String body : Env.bodies("late", 100)) {
                messages.add(Env.message(topic, "late", body));
            }
            env.producer.send(messages);
        }
        List<DefaultMQPushConsumer> torn = new ArrayList<>();
        for (String tag : List.of("one", "two")) {
            DefaultMQPushConsumer consumer = env.consumer("torn");
            consumer.setInstanceName(tag);
            consumer.subscribe(topic, tag);
            consumer.registerMessageListener(new Received().concurrently());
            consumer.start();
            torn.add(consumer);
        }
        await("both members", () ->
            env.admin.examineConsumerConnectionInfo(env.name("torn")).getConnectionSet().size() == 2);
        facts.put("trouble", doctor());
        equal("trouble", List.of("error subscriptions-differ", "warning lag-without-consumer"), facts.get("trouble"));
        torn.forEach(DefaultMQPushConsumer::shutdown);
    }

    /** What it finds of the cluster. */
    private List<String> doctor() throws Exception {
        Map<String, Object> report = oxmq("doctor");
        equal("not seen", List.of(), report.get("notSeen"));
        return list(report, "findings").stream()
            .filter(finding -> !HOST_CHECKS.matcher((String) finding.get("check")).matches())
            .map(finding -> finding.get("severity") + " " + finding.get("check")).sorted().collect(Collectors.toList());
    }

    @SuppressWarnings("unchecked")
    private static List<Map<String, Object>> list(Map<String, Object> map, String key) {
        return (List<Map<String, Object>>) map.get(key);
    }

    /** The answer of a command, and how it ended. */
    @SuppressWarnings("unchecked")
    private Map<String, Object> oxmq(String... words) throws Exception {
        List<String> command = new ArrayList<>(List.of(Objects.requireNonNull(System.getenv("OXMQ"), "OXMQ names the program")));
        command.addAll(List.of(words));
        command.addAll(List.of("-n", env.namesrv, "--json"));
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        Map<String, Object> answer = RemotingSerializable.fromJson(output, Map.class);
        answer.put("exit code", process.waitFor());
        return answer;
    }
}
