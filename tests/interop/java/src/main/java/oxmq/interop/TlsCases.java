package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.io.DataOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigInteger;
import java.net.Socket;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;
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
        // Several programs run side by side.
        try (FileChannel file = FileChannel.open(Path.of(folder, "lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
            FileLock lock = file.lock()) {
            reload(env, Path.of(folder));
        }
    }

    /** The servers' files get another certificate and its key while messages are sent, of which none fails. */
    private static void reload(Env env, Path folder) throws Exception {
        AtomicBoolean stop = new AtomicBoolean();
        AtomicInteger sent = new AtomicInteger();
        Set<String> failures = ConcurrentHashMap.newKeySet();
        DefaultMQProducer producer = env.producer("tls-reload");
        producer.setInstanceName("tls-reload");
        producer.setRetryTimesWhenSendFailed(0);
        producer.start();
        Thread sender = new Thread(() -> {
            while (!stop.get()) {
                try {
                    producer.send(new Message(env.name("tls"), "tag", "during".getBytes(StandardCharsets.UTF_8)));
                    sent.incrementAndGet();
                } catch (Exception failure) {
                    failures.add(failure.toString());
                }
            }
        });
        sender.start();
        try {
            await("the first send", () -> sent.get() > 0);
            // The next program finds the files the other way round.
            for (String ending : new String[] {".key", ".pem"}) {
                Path server = folder.resolve("server" + ending);
                Path next = folder.resolve("next" + ending);
                byte[] before = Files.readAllBytes(server);
                Files.write(server, Files.readAllBytes(next));
                Files.write(next, before);
            }
            BigInteger serial;
            try (InputStream file = Files.newInputStream(folder.resolve("server.pem"))) {
                serial = ((X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(file)).getSerialNumber();
            }
            await("the other certificate at the broker", () -> serial.equals(shownSerial(env.brokerAddr())));
            await("the other certificate at the name server", () -> serial.equals(shownSerial(env.namesrv)));
            equal("a client that comes later", "served", send(env, "later", true));
        } finally {
            stop.set(true);
            sender.join();
            producer.shutdown();
        }
        check(failures.isEmpty(), "sends failed while certificates changed: " + failures);
    }

    /** Of the certificate that a server shows, whatever it thinks of this client. */
    private static BigInteger shownSerial(String addr) throws Exception {
        BigInteger[] serial = new BigInteger[1];
        X509TrustManager anyone = new X509TrustManager() {
            @Override
            public void checkClientTrusted(X509Certificate[] chain, String kind) {
            }

            @Override
            public void checkServerTrusted(X509Certificate[] chain, String kind) {
                serial[0] = chain[0].getSerialNumber();
            }

            @Override
            public X509Certificate[] getAcceptedIssuers() {
                return new X509Certificate[0];
            }
        };
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] {anyone}, null);
        String[] parts = addr.split(":");
        try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(parts[0], Integer.parseInt(parts[1]))) {
            socket.startHandshake();
        } catch (IOException refused) {
            // It wants to see a certificate, but has shown its own before.
        }
        return serial[0];
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
