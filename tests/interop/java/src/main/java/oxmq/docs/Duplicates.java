package oxmq.docs;

import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

/** Sends a message twice and has it stored once, by a broker with duplicateSendWindow. */
public final class Duplicates {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer("java_bookings");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        Message booking = new Message("JavaBookings", "seat 7".getBytes());
        SendResult first = producer.send(booking); // gives the object its UNIQ_KEY
        SendResult again = producer.send(booking); // the same key: as when the client sends again by itself
        System.out.println(first.getOffsetMsgId() + " and " + again.getOffsetMsgId()); // one message
        // docs: end
        if (!first.getOffsetMsgId().equals(again.getOffsetMsgId()) || first.getQueueOffset() != again.getQueueOffset()) {
            throw new AssertionError("stored twice: " + first + " " + again);
        }
        producer.shutdown();
    }
}
