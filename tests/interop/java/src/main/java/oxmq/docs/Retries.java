package oxmq.docs;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** A message that cannot be consumed becomes a dead letter. */
public final class Retries {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        DefaultMQProducer producer = new DefaultMQProducer("java_retry_writers");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        producer.send(new Message("JavaPayments", "seven apples for no money".getBytes()));
        BlockingQueue<MessageExt> dead = new LinkedBlockingQueue<>();
        // docs: begin
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("java_retry_readers");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("JavaPayments", "*");
        consumer.setMaxReconsumeTimes(1); // after the second failure it is a dead letter
        consumer.setPollNameServerInterval(1000); // finds topics that come into being
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            System.out.println("attempt " + messages.get(0).getReconsumeTimes());
            context.setDelayLevelWhenNextConsume(1); // a second; 0: 10 s, then longer each time
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.start();

        DefaultMQPushConsumer undertaker = new DefaultMQPushConsumer("java_undertakers");
        undertaker.setNamesrvAddr(namesrv);
        undertaker.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        undertaker.subscribe("%DLQ%java_retry_readers", "*"); // a topic like any other
        undertaker.setPollNameServerInterval(1000);
        undertaker.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            dead.addAll(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        undertaker.start();
        // docs: end
        MessageExt letter = dead.poll(90, TimeUnit.SECONDS);
        if (letter == null || letter.getReconsumeTimes() != 2 || !"JavaPayments".equals(letter.getProperty("RETRY_TOPIC"))) {
            throw new AssertionError(letter);
        }
        consumer.shutdown();
        undertaker.shutdown();
        producer.shutdown();
    }
}
