package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.acl.common.AclClientRPCHook;
import org.apache.rocketmq.acl.common.SessionCredentials;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/** Brokers that control access: by users and policies of 5.x, and by the accounts of a file of 4.x. */
final class AclCases {
    private static final String FOLDER = "OXMQ_ACL";
    private static final String SECRET = "12345678";

    private AclCases() {
    }

    /** Users and policies; the accounts of the file have become users. */
    static void users(Env env, Map<String, Object> facts) throws Exception {
        Requests requests = new Requests(env, facts);
        String alice = env.name("alice");
        try {
            administer(requests, alice);
            mqadmin(env, requests.broker, facts);
            messages(env, requests, facts, alice);
            accounts(env, facts);
        } finally {
            requests.client.shutdown();
        }
    }

    private static void administer(Requests requests, String alice) throws Exception {
        // The original takes an empty field of a binary header for none, and then finds the signature wrong.
        if (!"ROCKETMQ".equals(System.getProperty("rocketmq.serialize.type"))) {
            requests.ask("create without name", "root", 3001, Map.of("username", ""), "{}");
        }
        requests.ask("create without password", "root", 3001, Map.of("username", alice), "{}");
        String user = "{\"password\":\"" + SECRET + "\",\"userType\":\"Normal\"}";
        requests.ask("create", "root", 3001, Map.of("username", alice), user);
        requests.ask("create again", "root", 3001, Map.of("username", alice), user);
        requests.ask("get", "root", 3004, Map.of("username", alice), null);
        requests.ask("get unknown", "root", 3004, Map.of("username", "nobody"), null);
        requests.ask("list", "root", 3005, Map.of("filter", alice), null);
        requests.ask("list unknown", "root", 3005, Map.of("filter", "nobody"), null);
        requests.ask("update unknown", "root", 3002, Map.of("username", "nobody"), user);
        requests.ask("delete unknown", "root", 3003, Map.of("username", "nobody"), null);
        requests.ask("may nothing", alice, 3005, Map.of("filter", alice), null);

        String subject = "User:" + alice;
        requests.ask("no acl yet", "root", 3009, Map.of("subject", subject), null);
        requests.ask("acl of nobody", "root", 3009, Map.of("subject", "User:nobody"), null);
        requests.ask("acl of no subject", "root", 3009, Map.of("subject", "Role:x"), null);
        requests.ask("delete no acl", "root", 3008, Map.of("subject", subject), null);
        for (String[] wrong : new String[][] {
            {"Foo:x", "Pub", "Allow", ""}, {"Topic:x", "Any", "Allow", ""}, {"Topic:x", "Fly", "Allow", ""},
            {"Topic:x", "Pub", "Perhaps", ""}, {"Topic:x", "Pub", "Allow", "10.0.*.1"}, {"Topic:x", "Pub", "Allow", "10.0.0.0/33"}}) {
            requests.ask("wrong acl " + String.join(" ", wrong), "root", 3006, Map.of("subject", subject),
                policies("Custom", entry(wrong[0], wrong[1], wrong[2], wrong[3])));
        }
        requests.ask("empty acl", "root", 3006, Map.of("subject", subject), "{\"policies\":[{\"entries\":[]}]}");
        requests.ask("acl for nobody", "root", 3006, Map.of("subject", "User:nobody"),
            policies("Custom", entry("Topic:x", "Pub", "Allow", "")));
        String prefix = alice + "-";
        requests.ask("create acl", "root", 3006, Map.of("subject", subject), policies("Custom",
            entry("Topic:" + prefix + "*", "Pub,Sub", "Allow", "127.0.0.0/8"),
            entry("Topic:" + prefix + "closed", "All", "Deny", ""),
            entry("Topic:" + prefix + "far", "pub", "Allow", "10.1.2.3")));
        requests.ask("update acl", "root", 3007, Map.of("subject", subject), policies("Custom",
            entry("Group:" + prefix + "*", "Sub", "Allow", "")));
        requests.ask("default acl", "root", 3007, Map.of("subject", subject), policies("default",
            entry("Topic:*", "Get", "Allow", "")));
        requests.ask("get acl", "root", 3009, Map.of("subject", subject), null);
        requests.ask("list by subject", "root", 3010, Map.of("subjectFilter", alice), null);
        requests.ask("list by resource", "root", 3010, Map.of("subjectFilter", alice, "resourceFilter", "closed"), null);
        requests.ask("list nothing", "root", 3010, Map.of("subjectFilter", "nobody"), null);
        requests.ask("make super", alice, 3002, Map.of("username", alice), "{\"userType\":\"Super\"}");
    }

    /** The commands of 5.5. Nothing else runs in this process while they print. */
    private static void mqadmin(Env env, String broker, Map<String, Object> facts) {
        if (MQVersion.CURRENT_VERSION < MQVersion.Version.V5_0_0.ordinal()) {
            return;
        }
        for (String line : new String[] {
            "createUser -b BROKER -u BOB -p secret -t Normal", "createUser -c DefaultCluster -u BOB -p secret",
            "createUser -c DefaultCluster -u CAROL -p secret -t Super", "listUser -b BROKER -f BOB", "listUser -b BROKER -f nobody",
            "getUser -b BROKER -u BOB", "getUser -b BROKER -u nobody", "updateUser -b BROKER -u BOB -s disable",
            "updateUser -c DefaultCluster -u BOB -t Super", "updateUser -b BROKER -u nobody -p other", "listUser -c DefaultCluster -f BOB",
            "copyUser -f BROKER -t BROKER -u BOB",
            "createAcl -b BROKER -s User:BOB -r Topic:orders,Group:* -a Pub,Sub -d Allow -i 10.0.0.0/24,127.0.0.1",
            "createAcl -b BROKER -s User:nobody -r Topic:orders -a Pub -d Allow", "createAcl -b BROKER -s User:BOB -r Tropic:x -a Pub -d Allow",
            "updateAcl -c DefaultCluster -s User:BOB -r Topic:orders -a All -d Deny", "getAcl -b BROKER -s User:BOB",
            "getAcl -b BROKER -s User:CAROL", "listAcl -b BROKER -s BOB", "listAcl -b BROKER -s BOB -r Group", "listAcl -b BROKER -s nobody",
            "copyAcl -f BROKER -t BROKER -s User:BOB", "deleteAcl -b BROKER -s User:BOB -r Topic:orders", "getAcl -b BROKER -s User:BOB",
            "deleteAcl -c DefaultCluster -s User:BOB", "deleteAcl -b BROKER -s User:BOB", "deleteUser -b BROKER -u BOB",
            "deleteUser -c DefaultCluster -u CAROL", "deleteUser -b BROKER -u nobody"}) {
            String command = line.replace("BROKER", broker).replace("BOB", env.name("bob")).replace("CAROL", env.name("carol"));
            PrintStream console = System.out;
            PrintStream errors = System.err;
            ByteArrayOutputStream output = new ByteArrayOutputStream();
            System.setOut(new PrintStream(output, true, StandardCharsets.UTF_8));
            System.setErr(System.out);
            MQAdminStartup.main0((command + " -n " + env.namesrv).split(" "), hook("root", SECRET));
            System.setOut(console);
            System.setErr(errors);
            // Of an exception its message, but not where the client was.
            String text = output.toString(StandardCharsets.UTF_8).replaceAll("(?m)^\\s+at .*$", "").replace(broker, "BROKER");
            facts.put("mqadmin " + line, comparable(env, text));
        }
    }

    private static void messages(Env env, Requests requests, Map<String, Object> facts, String alice) throws Exception {
        String open = alice + "-open";
        String topic = "{}";
        requests.ask("create topic", "root", 17, topic(open), topic);
        requests.ask("create topic as alice", alice, 17, topic(open), topic);
        requests.ask("max offset", alice, 30, Map.of("topic", open, "queueId", "0"), null);
        requests.ask("pull of another group", alice, 11, pull(open, "foreign"), null);
        requests.ask("pull of another topic", alice, 11, pull("TBW102", alice + "-group"), null);
        requests.ask("query offset", alice, 14, Map.of("topic", open, "queueId", "0", "consumerGroup", "foreign"), null);
        requests.ask("unsigned", null, 30, Map.of("topic", open, "queueId", "0"), null);
        requests.ask("without fields", null, 28, Map.of(), null);
        requests.ask("heartbeat of another group", alice, 34, Map.of(),
            "{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"foreign\",\"subscriptionDataSet\":[]}],\"producerDataSet\":[]}");
        facts.put("send", send(env, alice, SECRET, open));
        facts.put("send to a closed topic", send(env, alice, SECRET, alice + "-closed"));
        facts.put("send from elsewhere", send(env, alice, SECRET, alice + "-far"));
        facts.put("send to another topic", send(env, alice, SECRET, "TBW102"));
        facts.put("send with a wrong secret", send(env, alice, "87654321", open));
        facts.put("send as nobody", send(env, "nobody", SECRET, open));
        facts.put("send unsigned", send(env, null, null, open));
        equal("consumed", 1, consume(env, alice, open, alice + "-group"));
        equal("pulled", 1, litePull(env, alice, open, alice + "-pullers"));
        requests.ask("disable", "root", 3002, Map.of("username", alice), "{\"userStatus\":\"disable\"}");
        facts.put("send while disabled", send(env, alice, SECRET, open));
        requests.ask("enable", "root", 3002, Map.of("username", alice), "{\"userStatus\":\"enable\",\"password\":\"fresh password\"}");
        facts.put("send with the old password", send(env, alice, SECRET, open));
        facts.put("send with the new password", send(env, alice, "fresh password", open));
        requests.ask("delete entry", "root", 3008, Map.of("subject", "User:" + alice, "resource", "Topic:" + alice + "-*"), null);
        facts.put("send without an entry", send(env, alice, "fresh password", open));
        requests.ask("delete acl", "root", 3008, Map.of("subject", "User:" + alice), null);
        requests.ask("get deleted acl", "root", 3009, Map.of("subject", "User:" + alice), null);
        requests.ask("delete super user as alice", alice, "fresh password", 3003, Map.of("username", "root"), null);
        requests.ask("delete user", "root", 3003, Map.of("username", alice), null);
        facts.put("send as a deleted user", send(env, alice, "fresh password", open));
    }

    /** Accounts of a file: those of the cluster, and one that comes while messages are being sent. */
    static void files(Env env, Map<String, Object> facts) throws Exception {
        Requests requests = new Requests(env, facts);
        try {
            accounts(env, facts);
            requests.ask("no administrator", "keeper7", 17, topic("acl-new"), null);
            String fresh = env.name("fresh");
            Map<String, String> account = Map.of("accessKey", fresh, "secretKey", SECRET, "admin", "false",
                "topicPerms", "acl-open=PUB|SUB,acl-read=SUB", "groupPerms", "acl-group=SUB");
            requests.ask("account of short keys", "root777", 50, Map.of("accessKey", "short", "secretKey", SECRET, "admin", "false"), null);
            requests.ask("create account", "root777", 50, account, null);
            facts.put("send of the account", send(env, fresh, SECRET, "acl-open"));
            facts.put("send to what it may read", send(env, fresh, SECRET, "acl-read"));
            requests.ask("delete account", "root777", 51, Map.of("accessKey", fresh), null);
            requests.ask("delete account again", "root777", 51, Map.of("accessKey", fresh), null);
            facts.put("versions", requests.code("root777", 52, Map.of()));
            requests.ask("white list of another file", "root777", 53, Map.of("globalWhiteAddrs", "10.0.0.1", "aclFileFullPath", "/etc/passwd"), null);
            reload(env, facts);
        } finally {
            requests.client.shutdown();
        }
    }

    /** What accounts of the suite's file may do, in either form of access control. */
    private static void accounts(Env env, Map<String, Object> facts) throws Exception {
        facts.put("account: allowed", isSent(env, "keeper7", SECRET, "acl-open"));
        facts.put("account: denied", isSent(env, "keeper7", SECRET, "acl-closed"));
        facts.put("account: to read only", isSent(env, "keeper7", SECRET, "acl-read"));
        facts.put("account: by default", isSent(env, "keeper7", SECRET, "acl-other"));
        facts.put("account: wrong secret", isSent(env, "keeper7", "87654321", "acl-open"));
        facts.put("account: administrator", isSent(env, "operator7", SECRET, "acl-other"));
    }

    private static void reload(Env env, Map<String, Object> facts) throws Exception {
        String late = env.name("late");
        Path file = Path.of(System.getenv(FOLDER), "acl", late + ".yml");
        AtomicBoolean stop = new AtomicBoolean();
        AtomicInteger sent = new AtomicInteger();
        Set<String> failures = ConcurrentHashMap.newKeySet();
        DefaultMQProducer producer = producer(env, "keeper7", SECRET);
        Thread sender = new Thread(() -> {
            while (!stop.get()) {
                try {
                    producer.send(Env.message("acl-open", "tag", "during"));
                    sent.incrementAndGet();
                } catch (Exception failure) {
                    failures.add(failure.toString());
                }
            }
        });
        sender.start();
        try {
            await("the first send", () -> sent.get() > 0);
            Files.createDirectories(file.getParent());
            Files.writeString(file, "accounts:\n  - {accessKey: " + late + ", secretKey: '" + SECRET + "', admin: true}\n");
            await("the account that came late", () -> isSent(env, late, SECRET, "acl-open").equals("sent"));
            Files.writeString(file, "accounts:\n  - {accessKey: " + late + ", secretKey: '87654321', admin: true}\n");
            await("its other secret", () -> isSent(env, late, "87654321", "acl-open").equals("sent"));
        } finally {
            stop.set(true);
            sender.join();
            producer.shutdown();
            Files.deleteIfExists(file);
        }
        check(failures.isEmpty(), "sends failed while files were read again: " + failures);
    }

    private static DefaultMQProducer producer(Env env, String user, String secret) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(env.name("acl-producer"), hook(user, secret));
        producer.setNamesrvAddr(env.namesrv);
        producer.setSendMsgTimeout(10_000);
        producer.setRetryTimesWhenSendFailed(0);
        producer.setInstanceName(user + System.nanoTime());
        producer.start();
        return producer;
    }

    private static RPCHook hook(String user, String secret) {
        return user == null ? null : new AclClientRPCHook(new SessionCredentials(user, secret));
    }

    private static String isSent(Env env, String user, String secret, String topic) throws Exception {
        return send(env, user, secret, topic).equals("sent") ? "sent" : "refused";
    }

    private static String send(Env env, String user, String secret, String topic) throws Exception {
        DefaultMQProducer producer = producer(env, user, secret);
        try {
            producer.send(Env.message(topic, "tag", "message"));
            return "sent";
        } catch (MQClientException | MQBrokerException refused) {
            // Some codes are worth a second try to the client, which then tells of it in an exception of its own.
            Throwable cause = refused instanceof MQBrokerException ? refused : refused.getCause();
            if (!(cause instanceof MQBrokerException)) {
                throw refused;
            }
            MQBrokerException answer = (MQBrokerException) cause;
            return answer.getResponseCode() + " " + comparable(env, answer.getErrorMessage());
        } finally {
            producer.shutdown();
        }
    }

    private static int consume(Env env, String user, String topic, String group) throws Exception {
        Set<String> received = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer =
            new DefaultMQPushConsumer(group, hook(user, SECRET), new AllocateMessageQueueAveragely());
        consumer.setNamesrvAddr(env.namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPollNameServerInterval(1000);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> received.add(message.getMsgId()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        await("a message", () -> !received.isEmpty());
        consumer.shutdown();
        return received.size();
    }

    private static int litePull(Env env, String user, String topic, String group) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(group, hook(user, SECRET));
        consumer.setNamesrvAddr(env.namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.start();
        int[] received = {0};
        await("a message", () -> (received[0] += consumer.poll(500).size()) > 0);
        consumer.shutdown();
        return received[0];
    }

    private static Map<String, String> topic(String name) {
        return Map.of("topic", name, "defaultTopic", "TBW102", "readQueueNums", "1", "writeQueueNums", "1", "perm", "6",
            "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "order", "false");
    }

    private static Map<String, String> pull(String topic, String group) {
        Map<String, String> fields = new HashMap<>(Map.of("topic", topic, "consumerGroup", group, "queueId", "0",
            "queueOffset", "0", "maxMsgNums", "1", "sysFlag", "4", "commitOffset", "0", "suspendTimeoutMillis", "0",
            "subVersion", "0", "subscription", "*"));
        return fields;
    }

    private static String policies(String type, String... entries) {
        return "{\"policies\":[{\"policyType\":\"" + type + "\",\"entries\":[" + String.join(",", entries) + "]}]}";
    }

    private static String entry(String resource, String actions, String decision, String sourceIps) {
        String ips = sourceIps.isEmpty() ? "" : ",\"sourceIps\":[\"" + sourceIps + "\"]";
        return "{\"resource\":\"" + resource + "\",\"actions\":[\"" + actions.replace(",", "\",\"") + "\"],\"decision\":\"" + decision
            + "\"" + ips + "}";
    }

    /** What a remark says besides where the original's code stands, and whose names are in it. */
    private static String comparable(Env env, String remark) {
        return String.valueOf(remark).replace(env.name(""), "").replaceAll(", org\\.apache\\.rocketmq.*", "")
            .replaceAll("(and secretKey)=\\w+", "$1").replaceAll("\\s+", " ").trim();
    }

    /** Requests of any kind, signed as whoever is to ask. */
    private static final class Requests {
        final NettyRemotingClient client = new NettyRemotingClient(new NettyClientConfig());
        private final Env env;
        private final Map<String, Object> facts;
        final String broker;

        Requests(Env env, Map<String, Object> facts) throws Exception {
            this.env = env;
            this.facts = facts;
            broker = env.brokerAddr();
            client.start();
        }

        void ask(String fact, String user, int code, Map<String, String> fields, String body) throws Exception {
            ask(fact, user, SECRET, code, fields, body);
        }

        void ask(String fact, String user, String secret, int code, Map<String, String> fields, String body) throws Exception {
            RemotingCommand response = answer(user, secret, code, fields, body);
            String text = response.getBody() == null || response.getCode() != 0 ? "" : new String(response.getBody(), StandardCharsets.UTF_8);
            // Of everything else only whether it is served matters here.
            boolean ofAccess = code >= 3001 && code <= 3010;
            facts.put(code + " " + fact, response.getCode() + " "
                + (response.getCode() == 0 ? ofAccess ? comparable(env, text) : "" : comparable(env, response.getRemark())));
        }

        int code(String user, int code, Map<String, String> fields) throws Exception {
            return answer(user, SECRET, code, fields, null).getCode();
        }

        private RemotingCommand answer(String user, String secret, int code, Map<String, String> fields, String body) throws Exception {
            RemotingCommand request = RemotingCommand.createRequestCommand(code, null);
            request.setExtFields(new HashMap<>(fields));
            if (body != null) {
                request.setBody(body.getBytes(StandardCharsets.UTF_8));
            }
            if (user != null) {
                hook(user, secret).doBeforeRequest(broker, request);
            }
            return client.invokeSync(broker, request, 10_000);
        }
    }
}
