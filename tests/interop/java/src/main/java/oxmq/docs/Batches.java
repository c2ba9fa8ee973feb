package oxmq.docs;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/** Sends many messages in one request. */
public final class Batches {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer("java_sensors");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        producer.send(new Message("JavaReadings", "ready".getBytes())); // makes the topic
        List<Message> batch = new ArrayList<>();
        for (int reading = 0; reading < 10; reading++) {
            batch.add(new Message("JavaReadings", "sensor-1", String.valueOf(reading).getBytes()));
        }
        SendResult sent = producer.send(batch); // to one queue, all or none
        System.out.println("from queue offset " + sent.getQueueOffset() + " on");
        // docs: end
        if (sent.getSendStatus() != SendStatus.SEND_OK) {
            throw new AssertionError(sent);
        }
        producer.shutdown();
    }
}
