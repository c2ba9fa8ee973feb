package oxmq.interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.trace.TraceBean;
import org.apache.rocketmq.client.trace.TraceContext;
import org.apache.rocketmq.client.trace.TraceDataEncoder;
import org.apache.rocketmq.client.trace.TraceType;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Reads traces with the decoder of the stock client. */
public final class TraceReader {
    static final String TOPIC = "RMQ_SYS_TRACE_TOPIC";

    private TraceReader() {
    }

    /** Makes the topic of traces: a client does not send again what is lost while nobody knows where the topic is. */
    public static void prepare(String namesrv) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("trace-topic-makers");
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName("trace-topic-makers-" + System.nanoTime());
        producer.setSendMsgTimeout(10_000);
        producer.start();
        try {
            Env.await("the topic of traces", () -> producer.send(new Message(TOPIC, "ready".getBytes())) != null);
            Env.await("its route", () -> {
                return !producer.getDefaultMQProducerImpl().getmQClientFactory().getMQClientAPIImpl()
                    .getTopicRouteInfoFromNameServer(TOPIC, 3000).getQueueDatas().isEmpty();
            });
        } finally {
            producer.shutdown();
        }
    }

    /** The kinds of the records of a message, in order of their names, once there are so many. */
    public static List<String> kinds(String namesrv, String msgId, int count) throws Exception {
        List<String> result = new ArrayList<>();
        for (TraceContext context : contexts(namesrv, msgId, count)) {
            result.add(context.getTraceType().name());
        }
        result.sort(null);
        return result;
    }

    static List<TraceContext> contexts(String namesrv, String msgId, int count) throws Exception {
        DefaultMQPullConsumer reader = new DefaultMQPullConsumer("trace-reader-" + msgId);
        reader.setNamesrvAddr(namesrv);
        reader.setInstanceName("trace-reader-" + msgId);
        reader.start();
        List<TraceContext> result = new ArrayList<>();
        try {
            Env.await(count + " traces of " + msgId, () -> {
                result.clear();
                for (MessageQueue queue : new TreeSet<>(reader.fetchSubscribeMessageQueues(TOPIC))) {
                    read(reader, queue, msgId, result);
                }
                return result.size() >= count;
            });
        } finally {
            reader.shutdown();
        }
        return result;
    }

    private static void read(DefaultMQPullConsumer reader, MessageQueue queue, String msgId, List<TraceContext> result)
        throws Exception {
        PullResult pulled;
        long offset = 0;
        do {
            pulled = reader.pull(queue, "*", offset, 32);
            offset = pulled.getNextBeginOffset();
            if (pulled.getPullStatus() != PullStatus.FOUND) {
                return;
            }
            for (MessageExt message : pulled.getMsgFoundList()) {
                String text = new String(message.getBody(), StandardCharsets.UTF_8);
                for (TraceContext context : TraceDataEncoder.decoderFromTraceDataString(text)) {
                    boolean isOfMessage = context.getTraceBeans().stream().anyMatch(bean -> msgId.equals(bean.getMsgId()));
                    if (isOfMessage) {
                        Env.check(List.of(message.getKeys().split(" ")).contains(msgId), "the id is no key of its traces");
                        result.add(context);
                    }
                }
            }
        } while (true);
    }

    /** What a record says, without times, hosts, ids and the names of groups. */
    static String shape(Env env, TraceContext context) {
        TraceBean bean = context.getTraceBeans().get(0);
        List<Object> shape = new ArrayList<>();
        shape.add(context.getTraceType());
        shape.add(context.isSuccess());
        if (context.getTraceType() != TraceType.SubAfter) {
            shape.add(context.getRegionId());
        }
        if (context.getTraceType() == TraceType.SubAfter) {
            shape.add(context.getContextCode());
            shape.add(bean.getKeys());
        } else if (context.getTraceType() == TraceType.SubBefore) {
            shape.add(bean.getRetryTimes());
            shape.add(bean.getKeys());
        } else {
            shape.add(bean.getTopic().replace(env.name(""), "").replaceFirst("-(java|rust)$", ""));
            shape.add(bean.getTags());
            shape.add(bean.getKeys());
            shape.add(bean.getMsgType());
            shape.add(bean.getStoreHost().split(":").length);
            shape.add(bean.getBodyLength());
            if (context.getTraceType() == TraceType.EndTransaction) {
                shape.add(bean.getTransactionState());
                shape.add(bean.isFromTransactionCheck());
            }
        }
        return shape.toString();
    }
}
