package oxmq.docs;

import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/** Sends and consumes in a namespace. */
public final class Namespaces {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        BlockingQueue<String> received = new LinkedBlockingQueue<>();
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer("java_tills");
        producer.setNamesrvAddr(namesrv);
        producer.setNamespace("west");
        producer.start();
        SendResult sent = producer.send(new Message("Receipts", "from west".getBytes()));
        System.out.println("sent to " + sent.getMessageQueue().getTopic()); // Receipts; the servers know west%Receipts

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("java_books");
        consumer.setNamesrvAddr(namesrv);
        consumer.setNamespace("west");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("Receipts", "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> received.add(message.getTopic() + ": " + new String(message.getBody())));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        // docs: end
        String first = received.poll(90, TimeUnit.SECONDS);
        if (!"Receipts: from west".equals(first)) {
            throw new AssertionError(first);
        }
        consumer.shutdown();
        producer.shutdown();
    }
}
