package oxmq.interop;

import static oxmq.interop.Env.equal;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Bodies compressed in each way and at the outermost levels, from Java to Rust and back. */
final class CompressionCases {
    private static final String[] KINDS = {"ZLIB", "LZ4", "ZSTD"};
    private static final int[] LEVELS = {1, 9};
    private static final String[] WORDS = {"apples", "pears", "plums", "quinces", "medlars", "cherries"};

    private CompressionCases() {
    }

    static void withRust(Env env, Map<String, Object> facts) throws Exception {
        env.needsVersion5();
        String topic = env.name("compression");
        env.createTopic(topic, 1);
        String body = body();
        for (String kind : KINDS) {
            for (int level : LEVELS) {
                DefaultMQProducer producer = env.producer("compression-" + kind + level);
                compress(producer, kind, level);
                producer.start();
                producer.send(new Message(topic, body.getBytes()));
                producer.shutdown();
            }
        }
        try (Peer rust = Peer.start("consume", env.namesrv, "", topic, env.name("compression-rust"))) {
            for (int i = 0; i < KINDS.length * LEVELS.length; i++) {
                String[] got = rust.await("got").split(" ", 4);
                equal("length", String.valueOf(body.length()), got[2]);
                equal("beginning", body.substring(0, 40), got[3]);
            }
        }
        facts.put("java", stored(env, topic, body));

        String back = env.name("compression-rust");
        env.createTopic(back, 1);
        for (String kind : KINDS) {
            for (int level : LEVELS) {
                String options = "compression=" + kind.toLowerCase() + ":" + level;
                try (Peer rust = Peer.start("send", env.namesrv, options, back, body)) {
                    rust.await("sent");
                }
            }
        }
        facts.put("rust", stored(env, back, body));
    }

    /** The flags of the messages. They are read with Java's decoder, which has to see the body. */
    private static List<Integer> stored(Env env, String topic, String body) throws Exception {
        List<Integer> flags = new ArrayList<>();
        for (MessageExt message : env.readAll(topic, KINDS.length * LEVELS.length)) {
            equal("body", body, Env.body(message));
            Env.check(message.getStoreSize() < body.length(), "stored in " + message.getStoreSize() + " bytes");
            flags.add(message.getSysFlag());
        }
        return flags;
    }

    /** By reflection, as clients before 5.0 have one way only. */
    private static void compress(DefaultMQProducer producer, String kind, int level) throws Exception {
        Method setType = Arrays.stream(producer.getClass().getMethods())
            .filter(method -> method.getName().equals("setCompressType")).findFirst().get();
        Class<?> types = setType.getParameterTypes()[0];
        for (Object type : types.getEnumConstants()) {
            if (type.toString().equals(kind)) {
                setType.invoke(producer, type);
            }
        }
        producer.getClass().getMethod("setCompressLevel", int.class).invoke(producer, level);
    }

    /** Words by lot: LZ4 finds no less in them than the others. */
    private static String body() {
        Random random = new Random(7);
        StringBuilder text = new StringBuilder();
        while (text.length() < 20_000) {
            text.append(WORDS[random.nextInt(WORDS.length)]).append(' ');
        }
        return text.toString();
    }
}
