package oxmq.interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Messages that are as large as they may be, and larger ones, which the client would let pass. */
final class SendLimitCases {
    /** {@code maxMessageSize} of a broker. */
    private static final int BODY_BYTES_MAX = 4 * 1024 * 1024;
    /** Too long for the two bytes that a record has for the length of its properties. */
    private static final int PROPERTIES_BYTES = 33_000;

    private final DefaultMQProducer producer;
    private final MessageQueue queue;

    private SendLimitCases(Env env) throws Exception {
        String topic = env.name("send-limits");
        env.createTopic(topic, 1);
        queue = new MessageQueue(topic, "broker-a", 0);
        producer = env.producer(env.name("send-limits-producer"));
        producer.setMaxMessageSize(16 * BODY_BYTES_MAX);
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        producer.setSendMsgTimeout(30_000);
        producer.start();
    }

    static void run(Env env, Map<String, Object> facts) throws Exception {
        SendLimitCases limits = new SendLimitCases(env);
        facts.put("largest body", limits.send(limits.withBody(BODY_BYTES_MAX)));
        facts.put("larger body", limits.send(limits.withBody(BODY_BYTES_MAX + 1)));
        facts.put("much larger body", limits.send(limits.withBody(3 * BODY_BYTES_MAX)));

        int accepted = 1;
        int refused = PROPERTIES_BYTES;
        while (refused - accepted > 1) {
            int middle = (accepted + refused) / 2;
            if (limits.send(limits.withProperty(middle)).startsWith("SEND_OK")) {
                accepted = middle;
            } else {
                refused = middle;
            }
        }
        facts.put("largest property", accepted);
        facts.put("larger property", limits.send(limits.withProperty(refused)));
        facts.put("much larger property", limits.send(limits.withProperty(10 * PROPERTIES_BYTES)));

        List<Message> batch = new ArrayList<>(Arrays.asList(limits.withBody(10), limits.withBody(BODY_BYTES_MAX)));
        facts.put("large batch", limits.sendAll(batch));
        batch = new ArrayList<>(Arrays.asList(limits.withBody(10), limits.withProperty(PROPERTIES_BYTES)));
        facts.put("batch with a large property", limits.sendAll(batch));

        facts.put("after all", limits.send(limits.withBody(10)));
        limits.producer.shutdown();
        facts.put("stored", env.stored(limits.queue.getTopic()));
    }

    private Message withBody(int bytes) {
        return new Message(queue.getTopic(), "tag", new byte[bytes]);
    }

    private Message withProperty(int bytes) {
        Message message = withBody(10);
        char[] value = new char[bytes];
        Arrays.fill(value, 'v');
        message.putUserProperty("large", new String(value));
        return message;
    }

    private String send(Message message) throws Exception {
        try {
            return producer.send(message, queue).getSendStatus().toString();
        } catch (MQBrokerException refused) {
            return refused.getResponseCode() + " " + refused.getErrorMessage().split("\n")[0];
        }
    }

    private String sendAll(List<Message> batch) throws Exception {
        try {
            return producer.send(batch, queue).getSendStatus().toString();
        } catch (MQBrokerException refused) {
            // The original tells of its classes.
            return "refused with " + refused.getResponseCode();
        } catch (MQClientException refused) {
            return "not sent: " + refused.getCause();
        }
    }
}
