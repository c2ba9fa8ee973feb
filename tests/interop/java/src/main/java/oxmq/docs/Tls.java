package oxmq.docs;

import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

/** Sends over TLS. */
public final class Tls {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        String topic = args[1];
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer("java_tills");
        producer.setNamesrvAddr(namesrv);
        producer.setUseTLS(true); // or -Dtls.enable=true for every client of the process
        producer.start();
        SendResult sent = producer.send(new Message(topic, "encrypted on its way".getBytes()));
        // docs: end
        System.out.println(sent);
        producer.shutdown();
    }
}
