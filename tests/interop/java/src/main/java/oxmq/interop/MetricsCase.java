package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;

import java.io.InputStream;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;

/** The Prometheus endpoint: names, types, labels, and what is counted of one topic's traffic. */
final class MetricsCase {
    /** From the name server's port to that of the metrics, as the servers are started. */
    private static final int PORT_STEP = 12;
    private static final int MESSAGES = 9;
    private static final Pattern LABEL = Pattern.compile("([a-zA-Z_]+)=\"([^\"]*)\"");
    /** What always has a sample. */
    private static final List<String> ALWAYS = List.of("rocketmq_processor_watermark", "rocketmq_broker_permission",
        "rocketmq_topic_number", "rocketmq_consumer_group_number", "rocketmq_producer_connections",
        "rocketmq_storage_size_bytes", "rocketmq_storage_flush_behind_bytes", "rocketmq_storage_dispatch_behind_bytes",
        "rocketmq_storage_message_reserve_time_milliseconds", "rocketmq_timer_enqueue_lag",
        "rocketmq_timer_enqueue_latency_milliseconds", "rocketmq_timer_dequeue_lag",
        "rocketmq_timer_dequeue_latency_milliseconds", "rocketmq_timer_message_snapshot",
        "rocketmq_pop_offset_buffer_size", "rocketmq_pop_checkpoint_buffer_size",
        "rocketmq_pop_revive_lag_milliseconds", "rocketmq_pop_revive_latency_milliseconds");
    /** What differs from moment to moment. */
    private static final List<String> VOLATILE = List.of("rocketmq_consumer_lag_messages",
        "rocketmq_consumer_inflight_messages", "rocketmq_consumer_ready_messages", "_sum", "_bucket",
        "throughput", "_latency_milliseconds");

    private MetricsCase() {
    }

    static void run(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("metrics");
        String group = env.name("metrics-group");
        env.createTopic(topic, 1);
        env.send(topic, "normal", 5);
        Message fifo = Env.message(topic, "tag", "fifo");
        MessageAccessor.putProperty(fifo, "__SHARDINGKEY", "k");
        env.producer.send(fifo);
        Message level = Env.message(topic, "tag", "level");
        level.setDelayTimeLevel(1);
        env.producer.send(level);
        Message timer = Env.message(topic, "tag", "timer");
        MessageAccessor.putProperty(timer, "TIMER_DELAY_SEC", "1");
        env.producer.send(timer);
        transactions(env, topic);
        DefaultMQPushConsumer consumer = env.consumer("metrics-group");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(
            (MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        consumer.start();
        String out = "rocketmq_messages_out_total";
        await("messages out", () -> sum(scrape(env), out, group, topic) == MESSAGES);
        await("half messages", () -> sum(scrape(env), "rocketmq_half_messages", null, topic) == 0);
        await("timer messages", () -> sum(scrape(env), "rocketmq_timing_messages", null, topic) == 0);
        List<Sample> samples = scrape(env);
        env.shutdown(consumer, topic, MESSAGES);
        String types = text(env);
        for (String name : ALWAYS) {
            facts.put(name, labelNames(samples, name) + type(types, name));
        }
        for (Sample sample : samples) {
            if (topic.equals(sample.labels.get("topic")) || group.equals(sample.labels.get("consumer_group"))) {
                boolean counts = VOLATILE.stream().noneMatch(sample.name::contains);
                facts.put(sample.name + own(sample), counts ? sample.value : "present");
            }
            boolean isSend = "send_message_v2".equals(sample.labels.get("request_code"))
                && "success".equals(sample.labels.get("response_code"))
                && "success".equals(sample.labels.get("result"));
            if (isSend && sample.name.endsWith("_bucket")) {
                facts.put(sample.name + own(sample), "present");
            }
        }
        check(!facts.isEmpty(), "no metrics of " + topic);
    }

    private static void transactions(Env env, String topic) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(env.name("metrics-producer"));
        producer.setNamesrvAddr(env.namesrv);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object commits) {
                return (Boolean) commits ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return LocalTransactionState.UNKNOW;
            }
        });
        producer.start();
        producer.sendMessageInTransaction(Env.message(topic, "tag", "commit"), true);
        producer.sendMessageInTransaction(Env.message(topic, "tag", "rollback"), false);
        await("the ends", () -> sum(scrape(env), "rocketmq_rollback_messages_total", null, topic) == 1);
        producer.shutdown();
    }

    private static final class Sample {
        final String name;
        final Map<String, String> labels = new TreeMap<>();
        final double value;

        Sample(String line) {
            name = line.substring(0, line.indexOf('{'));
            Matcher matcher = LABEL.matcher(line);
            while (matcher.find()) {
                labels.put(matcher.group(1), matcher.group(2));
            }
            value = Double.parseDouble(line.substring(line.lastIndexOf(' ') + 1));
        }
    }

    private static String text(Env env) throws Exception {
        String[] address = env.namesrv.split(":");
        int port = Integer.parseInt(address[1]) + PORT_STEP;
        try (InputStream page = new URL("http://" + address[0] + ":" + port + "/metrics").openStream()) {
            return new String(page.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private static List<Sample> scrape(Env env) throws Exception {
        List<Sample> samples = new ArrayList<>();
        for (String line : text(env).split("\n")) {
            if (line.startsWith("rocketmq_")) {
                samples.add(new Sample(line));
            }
        }
        return samples;
    }

    private static double sum(List<Sample> samples, String name, String group, String topic) {
        return samples.stream()
            .filter(sample -> sample.name.equals(name) && topic.equals(sample.labels.get("topic")))
            .filter(sample -> group == null || group.equals(sample.labels.get("consumer_group")))
            .mapToDouble(sample -> sample.value)
            .sum();
    }

    private static String type(String text, String name) {
        return text.lines().filter(line -> line.startsWith("# TYPE " + name + " ")).findFirst().orElse("nothing");
    }

    private static TreeSet<String> labelNames(List<Sample> samples, String name) {
        TreeSet<String> names = new TreeSet<>();
        samples.stream().filter(sample -> sample.name.equals(name)).forEach(sample -> names.addAll(sample.labels.keySet()));
        return names;
    }

    /** The labels without those that differ from client to client. */
    private static Map<String, String> own(Sample sample) {
        Map<String, String> own = new TreeMap<>(sample.labels);
        own.computeIfPresent("topic", (name, topic) -> topic.contains("%") ? "%" : "topic");
        own.replace("consumer_group", "group");
        return own;
    }
}
