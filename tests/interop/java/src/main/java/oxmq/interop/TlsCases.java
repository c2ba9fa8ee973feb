package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.io.DataOutputStream;
import java.io.File;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.remoting.netty.TlsSystemConfig;

/**
 * A broker that takes TLS only, and a name server that takes both. The whole process was started with
 * {@code -Dtls.enable=true}.
 */
final class TlsCases {
    private static final int LARGE_BYTES = 1_000_000;

    private TlsCases() {
    }

    /** The servers have made their certificates themselves. */
    static void testMode(Env env, Map<String, Object> facts) throws Exception {
        exchange(env, facts);
    }

    /** Both sides show certificates of one root, and want to see them. */
    static void certificates(Env env, Map<String, Object> facts) throws Exception {
        exchange(env, facts);
        String certificate = TlsSystemConfig.tlsClientCertPath;
        String key = TlsSystemConfig.tlsClientKeyPath;
        String roots = TlsSystemConfig.tlsClientTrustCertPath;
        String folder = new File(roots).getParent();
        TlsSystemConfig.tlsClientCertPath = null;
        TlsSystemConfig.tlsClientKeyPath = null;
        facts.put("without certificate", send(env, "none", true));
        TlsSystemConfig.tlsClientCertPath = folder + "/stranger.pem";
        TlsSystemConfig.tlsClientKeyPath = folder + "/stranger.key";
        facts.put("certificate of another root", send(env, "stranger", true));
        TlsSystemConfig.tlsClientCertPath = folder + "/expired.pem";
        TlsSystemConfig.tlsClientKeyPath = folder + "/expired.key";
        facts.put("expired certificate", send(env, "expired", true));
        TlsSystemConfig.tlsClientCertPath = certificate;
        TlsSystemConfig.tlsClientKeyPath = key;
        TlsSystemConfig.tlsClientTrustCertPath = folder + "/other_roots.pem";
        facts.put("server of another root", send(env, "distrust", true));
        TlsSystemConfig.tlsClientTrustCertPath = roots;
        facts.put("right certificate", send(env, "again", true));
    }

    private static void exchange(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("tls");
        env.createTopic(topic, 1);
        env.send(topic, "message", 20);
        byte[] large = new byte[LARGE_BYTES];
        new Random(1).nextBytes(large);
        SendResult sent = env.producer.send(new Message(topic, "large", large));
        equal("send status", SendStatus.SEND_OK, sent.getSendStatus());
        equal("messages", 21, env.readAll(topic, 21).size());

        Set<Long> received = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer = env.consumer("tls");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> {
                check(message.getBody().length < LARGE_BYTES || java.util.Arrays.equals(large, message.getBody()), "body");
                received.add(message.getQueueOffset());
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        await("all messages", () -> received.size() == 21);
        env.shutdown(consumer, topic, 21);

        facts.put("plain socket at the broker", answer(env.brokerAddr()));
        facts.put("plain socket at the name server", answer(env.namesrv));
        facts.put("plain client", send(env, "plain", false));
    }

    /** Whether a frame that comes without TLS is answered. */
    private static String answer(String addr) throws Exception {
        String[] parts = addr.split(":");
        byte[] header = "{\"code\":25,\"flag\":0,\"language\":\"JAVA\",\"opaque\":1,\"version\":399}".getBytes(StandardCharsets.UTF_8);
        try (Socket socket = new Socket(parts[0], Integer.parseInt(parts[1]))) {
            socket.setSoTimeout(20_000);
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            out.writeInt(header.length + 4);
            out.writeInt(header.length);
            out.write(header);
            out.flush();
            return socket.getInputStream().read() < 0 ? "closed" : "answered";
        } catch (java.net.SocketException reset) {
            return "closed";
        }
    }

    /** Whether a client of its own, with the TLS settings of this moment, can send. */
    private static String send(Env env, String group, boolean tls) throws Exception {
        DefaultMQProducer producer = env.producer("tls-" + group);
        producer.setInstanceName("tls-" + group);
        producer.setUseTLS(tls);
        producer.setSendMsgTimeout(5_000);
        producer.start();
        try {
            producer.send(new Message(env.name("tls"), "tag", group.getBytes(StandardCharsets.UTF_8)));
            return "served";
        } catch (Exception refused) {
            refused.printStackTrace();
            return "refused";
        } finally {
            producer.shutdown();
        }
    }
}
