package oxmq.docs;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;

/** Sends messages that wait, and consumes them when their time has come. */
public final class Delay {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        CountDownLatch came = new CountDownLatch(2);
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer("java_delay_producer");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        Message reminder = new Message("JavaReminders", "in a second".getBytes());
        reminder.setDelayTimeLevel(1); // 1s 5s 10s 30s 1m ...
        producer.send(reminder);

        Message exact = new Message("JavaReminders", "at a time".getBytes());
        // setDeliverTimeMs(...) in clients from 5.0 on; the property is all that it sets
        MessageAccessor.putProperty(exact, "TIMER_DELIVER_MS", String.valueOf(System.currentTimeMillis() + 1500));
        producer.send(exact);

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("java_delay");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("JavaReminders", "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> {
                System.out.println(new String(message.getBody()) + ", stored " + message.getStoreTimestamp());
                came.countDown();
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        // docs: end
        if (!came.await(60, TimeUnit.SECONDS)) {
            throw new AssertionError("not all came");
        }
        consumer.shutdown();
        producer.shutdown();
    }
}
