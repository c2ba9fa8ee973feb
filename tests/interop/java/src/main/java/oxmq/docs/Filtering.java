package oxmq.docs;

import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/** The Java program of docs/filtering.md. */
public final class Filtering {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        Set<String> received = new ConcurrentSkipListSet<>();
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer("java_shops");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        for (int price = 1; price <= 10; price++) {
            Message offer = new Message("JavaOffers", price % 2 == 0 ? "tea" : "coffee", ("offer " + price).getBytes());
            offer.putUserProperty("price", String.valueOf(price));
            producer.send(offer);
        }

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("java_tea_drinkers");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("JavaOffers", MessageSelector.bySql("TAGS = 'tea' AND price BETWEEN 3 AND 8"));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> received.add(new String(message.getBody())));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        // docs: end
        for (int attempt = 0; received.size() < 3 && attempt < 1800; attempt++) {
            Thread.sleep(50);
        }
        consumer.shutdown();
        producer.shutdown();
        System.out.println(received);
        if (!received.equals(Set.of("offer 4", "offer 6", "offer 8"))) {
            throw new AssertionError(received);
        }
    }
}
