package oxmq.docs.v5;

import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/** Sends and consumes a message with traces. */
public final class Trace {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        CountDownLatch consumed = new CountDownLatch(1);
        oxmq.interop.TraceReader.prepare(namesrv);
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer("java_traced");
        producer.setNamesrvAddr(namesrv);
        producer.setEnableTrace(true); // to RMQ_SYS_TRACE_TOPIC; 4.x: new DefaultMQProducer(group, true)
        producer.start();
        Message message = new Message("JavaTraced", "tag", "order-17", "hello".getBytes());
        SendResult sent = producer.send(message);

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("java_traced");
        consumer.setNamesrvAddr(namesrv);
        consumer.setEnableTrace(true);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("JavaTraced", "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            consumed.countDown();
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        // docs: end
        if (!consumed.await(90, TimeUnit.SECONDS)) {
            throw new AssertionError("nothing came");
        }
        consumer.shutdown();
        producer.shutdown();
        List<String> kinds = oxmq.interop.TraceReader.kinds(namesrv, sent.getMsgId(), 3);
        if (!kinds.equals(List.of("Pub", "SubAfter", "SubBefore"))) {
            throw new AssertionError(kinds);
        }
    }
}
