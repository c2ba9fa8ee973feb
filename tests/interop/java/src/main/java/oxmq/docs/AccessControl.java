package oxmq.docs;

import org.apache.rocketmq.acl.common.AclClientRPCHook;
import org.apache.rocketmq.acl.common.SessionCredentials;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.remoting.RPCHook;

/** Sends as a user of the broker. */
public final class AccessControl {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        String topic = args[1];
        // docs: begin
        RPCHook shop = new AclClientRPCHook(new SessionCredentials("shop", "till-42"));
        DefaultMQProducer producer = new DefaultMQProducer("java_tills", shop);
        producer.setNamesrvAddr(namesrv);
        producer.start();
        SendResult sent = producer.send(new Message(topic, "signed".getBytes()));
        // docs: end
        System.out.println(sent);
        producer.shutdown();
    }
}
