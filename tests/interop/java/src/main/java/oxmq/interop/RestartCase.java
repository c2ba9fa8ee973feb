package oxmq.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * The broker stops and comes back. A producer and a consumer that run through it lose nothing; a group that was
 * offline meanwhile goes on where it left.
 */
final class RestartCase {
    private RestartCase() {
    }

    static void run(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("broker-restart");
        String kept = env.name("broker-restart-kept");
        Received received = new Received();
        DefaultMQPushConsumer running = env.consumer("broker-restart");
        env.send(topic, "before", 20);
        running.subscribe(topic, "*");
        running.registerMessageListener(received.concurrently());
        running.start();
        received.awaitExactly("before the restart", Env.bodies("before", 20));

        env.send(kept, "before", 20);
        consume(env, kept, "before", 20);

        List<String> acknowledged = new ArrayList<>();
        AtomicBoolean stop = new AtomicBoolean();
        CompletableFuture<Void> load = CompletableFuture.runAsync(() -> {
            for (int i = 0; !stop.get(); i++) {
                String body = "during-" + i;
                try {
                    env.producer.send(Env.message(topic, "tag", body));
                    acknowledged.add(body);
                } catch (Exception refused) {
                    // The broker is away: not acknowledged, so not expected.
                }
                LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(20));
            }
        });
        Main.awaitBrokerRestart();
        Env.await("a message after the restart", () -> {
            env.send(topic, "after", 1);
            return true;
        });
        stop.set(true);
        load.get(60, TimeUnit.SECONDS);
        Env.await("all acknowledged messages", () -> received.bodies().containsAll(acknowledged)
            && received.bodies().contains("after-000"));
        running.shutdown();
        TreeSet<String> early = new TreeSet<>();
        for (MessageExt message : received.messages()) {
            if (Env.body(message).startsWith("before") && !early.add(Env.body(message))) {
                throw new AssertionError(Env.body(message) + " came twice");
            }
        }

        env.send(kept, "after", 20);
        consume(env, kept, "after", 40);
        facts.put("stored", env.stored(kept));
    }

    private static void consume(Env env, String topic, String round, long consumed) throws Exception {
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("broker-restart-kept");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        received.awaitExactly(round, Env.bodies(round, 20));
        env.shutdown(consumer, topic, consumed);
    }
}
