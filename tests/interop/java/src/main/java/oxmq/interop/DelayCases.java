package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages that wait: on delay levels, for a time of their own, and recalled before it. */
final class DelayCases {
    /** A slot of the wheel, and what a busy machine adds. */
    private static final long LATE_MS = 4000;

    private DelayCases() {
    }

    static void level(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("delay-level");
        env.createTopic(topic, 2);
        Map<String, Long> due = new TreeMap<>();
        for (int i = 0; i < 10; i++) {
            Message message = Env.message(topic, "tag", "level-" + i);
            message.setDelayTimeLevel(1);
            due.put("level-" + i, System.currentTimeMillis() + 1000);
            env.producer.send(message);
        }
        Message both = timer(topic, "both", "TIMER_DELAY_SEC", "100");
        both.setDelayTimeLevel(1);
        due.put("both", System.currentTimeMillis() + 1000);
        SendResult result = env.producer.send(both);
        facts.put("queue id of the answer is that of the topic", result.getMessageQueue().getQueueId() < 2);
        Message nothing = Env.message(topic, "tag", "nothing");
        nothing.setDelayTimeLevel(0);
        due.put("nothing", System.currentTimeMillis());
        env.producer.send(nothing);
        checkTimes(env, topic, due, facts);
    }

    static void timer(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("delay-timer");
        env.createTopic(topic, 2);
        long now = System.currentTimeMillis();
        Map<String, Long> due = new TreeMap<>();
        sendTimer(env, due, timer(topic, "seconds", "TIMER_DELAY_SEC", "2"), now + 2000);
        sendTimer(env, due, timer(topic, "millis", "TIMER_DELAY_MS", "2345"), now + 2345);
        sendTimer(env, due, timer(topic, "time", "TIMER_DELIVER_MS", String.valueOf(now + 3210)), now + 3210);
        long second = now / 1000 * 1000 + 4000;
        sendTimer(env, due, timer(topic, "second", "TIMER_DELIVER_MS", String.valueOf(second)), second);
        sendTimer(env, due, timer(topic, "past", "TIMER_DELIVER_MS", "5"), now);
        sendTimer(env, due, timer(topic, "negative", "TIMER_DELAY_SEC", "-5"), now);
        sendTimer(env, due, timer(topic, "zero", "TIMER_DELAY_MS", "0"), now);
        checkTimes(env, topic, due, facts);

        for (String bad : new String[] {"", "x", "1.5", "99999999999999999999", "259201"}) {
            facts.put("TIMER_DELAY_SEC " + bad, refusal(env, timer(topic, "bad", "TIMER_DELAY_SEC", bad)));
        }
        facts.put("TIMER_DELIVER_MS far", refusal(env, timer(topic, "bad", "TIMER_DELIVER_MS", "9223372036854775807")));
        Message late = timer(topic, "late cancel", "TIMER_DELAY_SEC", "0");
        MessageAccessor.putProperty(late, "TIMER_DEL_UNIQKEY", "nobody");
        facts.put("cancel in the past", refusal(env, late));
    }

    /** Many at once, to the same second and spread. */
    static void timerMany(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("delay-many");
        env.createTopic(topic, 4);
        long start = System.currentTimeMillis() + 3000;
        Map<String, Long> due = new TreeMap<>();
        for (int i = 0; i < 400; i++) {
            long at = start + (i % 2 == 0 ? 0 : 7 * i);
            String body = String.format("many-%03d", i);
            due.put(body, at);
            env.producer.send(timer(topic, body, "TIMER_DELIVER_MS", String.valueOf(at)));
        }
        checkTimes(env, topic, due, facts);
    }

    static void recall(Env env, Map<String, Object> facts) throws Exception {
        env.needsVersion5();
        String topic = env.name("delay-recall");
        env.createTopic(topic, 1);
        String at = String.valueOf(System.currentTimeMillis() + 5000);
        List<String> handles = new ArrayList<>();
        for (String body : new String[] {"recalled", "kept", "recalled too"}) {
            SendResult result = env.producer.send(timer(topic, body, "TIMER_DELIVER_MS", at));
            String handle = (String) SendResult.class.getMethod("getRecallHandle").invoke(result);
            String[] parts = new String(Base64.getUrlDecoder().decode(handle), StandardCharsets.UTF_8).split(" ");
            equal("parts of a handle", 5, parts.length);
            facts.put("handle names the message", parts[4].equals(result.getMsgId()) && parts[1].equals(topic));
            facts.put("time of a handle", Long.parseLong(parts[3]) % 1000);
            handles.add(handle);
        }
        String recalled = (String) recall(env, topic, handles.get(0));
        recall(env, topic, handles.get(2));
        facts.put("recall answers with an id", !recalled.isEmpty());
        SendResult ordinary = env.producer.send(Env.message(topic, "tag", "ordinary"));
        facts.put("handle of an ordinary message", SendResult.class.getMethod("getRecallHandle").invoke(ordinary));

        String broker = env.producer.getDefaultMQProducerImpl().fetchPublishMessageQueues(topic).get(0).getBrokerName();
        long soon = System.currentTimeMillis() + 60_000;
        facts.put("another topic", recall(env, topic, handle("v1 other " + broker + " " + soon + " ID")));
        facts.put("no time", recall(env, topic, handle("v1 " + topic + " " + broker + " x ID")));
        facts.put("past", recall(env, topic, handle("v1 " + topic + " " + broker + " 5 ID")));
        facts.put("far", recall(env, topic, handle("v1 " + topic + " " + broker + " 9000000000000 ID")));

        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("delay-recall");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        await("what was kept", () -> received.bodies().contains("kept"));
        Thread.sleep(1500);
        facts.put("received", received.sortedBodies());
        consumer.shutdown();
    }

    private static String handle(String text) {
        return Base64.getUrlEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    /** The id, or the code and the words of the refusal. */
    private static Object recall(Env env, String topic, String handle) throws Exception {
        try {
            return DefaultMQProducer.class.getMethod("recallMessage", String.class, String.class)
                .invoke(env.producer, topic, handle);
        } catch (java.lang.reflect.InvocationTargetException failure) {
            if (failure.getCause() instanceof MQBrokerException) {
                MQBrokerException refusal = (MQBrokerException) failure.getCause();
                return refusal.getResponseCode() + " " + refusal.getErrorMessage();
            }
            return failure.getCause().getClass().getSimpleName();
        }
    }

    private static Message timer(String topic, String body, String property, String value) {
        Message message = Env.message(topic, "tag", body);
        MessageAccessor.putProperty(message, property, value);
        return message;
    }

    private static void sendTimer(Env env, Map<String, Long> due, Message message, long at) throws Exception {
        due.put(new String(message.getBody(), StandardCharsets.UTF_8), at);
        env.producer.send(message);
    }

    private static String refusal(Env env, Message message) throws Exception {
        try {
            return String.valueOf(env.producer.send(message).getSendStatus());
        } catch (MQBrokerException refused) {
            return refused.getResponseCode() + " " + refused.getErrorMessage();
        }
    }

    /** Each is stored under its topic once, when its time has come and not before. */
    private static void checkTimes(Env env, String topic, Map<String, Long> due, Map<String, Object> facts)
        throws Exception {
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer(topic.substring(topic.lastIndexOf('_') + 1));
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        await("all delayed messages", () -> received.count() >= due.size());
        for (MessageExt message : received.messages()) {
            long late = message.getStoreTimestamp() - due.get(Env.body(message));
            check(late >= 0, Env.body(message) + " came " + -late + " ms early");
            check(late < LATE_MS, Env.body(message) + " came " + late + " ms late");
            // Some of many are due when they are stored, and have no properties of a timer.
            if (due.size() < 100) {
                facts.putIfAbsent("properties of " + Env.body(message).replaceAll("\\d", ""), Env.propertyNames(message));
            }
        }
        equal("messages", new ArrayList<>(due.keySet()), received.sortedBodies());
        facts.put("messages", due.size());
        env.shutdown(consumer, topic, due.size());
    }
}
