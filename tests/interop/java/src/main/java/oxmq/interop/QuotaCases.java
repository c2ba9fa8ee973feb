package oxmq.interop;

import static oxmq.interop.Env.check;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;

/** A broker that gives every topic and every group 100 messages a second: clients become slower, and miss nothing. */
final class QuotaCases {
    private static final int RATE = 100;

    private QuotaCases() {
    }

    static void paced(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("quotas");
        env.createTopic(topic, 4);
        long started = System.nanoTime();
        env.send(topic, "sync", 150);
        tookAtLeast("150 sends", started, 150 - RATE);
        DefaultMQProducer producer = env.producer("quotas");
        producer.start();
        List<CompletableFuture<SendResult>> answers = new ArrayList<>();
        for (String body : Env.bodies("async", 50)) {
            answers.add(sendAsync(producer, topic, body));
        }
        for (CompletableFuture<SendResult> answer : answers) {
            answer.get(30, TimeUnit.SECONDS);
        }
        tookAtLeast("200 sends", started, 200 - RATE);

        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("quotas");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(received.concurrently());
        started = System.nanoTime();
        consumer.start();
        List<String> expected = Env.bodies("sync", 150);
        expected.addAll(Env.bodies("async", 50));
        received.awaitExactly("messages", expected);
        tookAtLeast("200 deliveries", started, 200 - RATE);
        env.shutdown(consumer, topic, 200);

        // Far more than may wait: some are refused, and what is refused is not stored.
        String flooded = env.name("quotas-flooded");
        env.createTopic(flooded, 1);
        answers.clear();
        for (String body : Env.bodies("flood", 600)) {
            answers.add(sendAsync(producer, flooded, body));
        }
        int stored = 0;
        for (CompletableFuture<SendResult> answer : answers) {
            try {
                answer.get(60, TimeUnit.SECONDS);
                stored++;
            } catch (java.util.concurrent.ExecutionException refused) {
                check(refused.getCause() instanceof MQBrokerException, "refused by the broker: " + refused);
                int code = ((MQBrokerException) refused.getCause()).getResponseCode();
                Env.equal("SYSTEM_BUSY", 2, code);
            }
        }
        check(stored >= 2 * RATE, stored + " passed");
        Env.equal("stored", (long) stored, env.stored(flooded));
        producer.shutdown();
    }

    private static CompletableFuture<SendResult> sendAsync(DefaultMQProducer producer, String topic, String body)
        throws Exception {
        CompletableFuture<SendResult> result = new CompletableFuture<>();
        producer.send(Env.message(topic, "tag", body), new SendCallback() {
            @Override
            public void onSuccess(SendResult sent) {
                result.complete(sent);
            }

            @Override
            public void onException(Throwable failure) {
                result.completeExceptionally(failure);
            }
        });
        return result;
    }

    /** So many messages beyond what passes at once. */
    private static void tookAtLeast(String what, long started, int beyond) {
        long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - started);
        check(millis >= 1000L * beyond / RATE - 20, what + " took " + millis + " ms");
    }
}
