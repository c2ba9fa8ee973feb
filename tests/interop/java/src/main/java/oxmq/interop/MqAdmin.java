package oxmq.interop;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * {@code MqAdmin <name server> <broker> [<oxmq>]}: one scenario of {@code mqadmin} commands, those of the original inside
 * this process because a JVM for each would take a second, or those of the executable. Prints each command with its
 * output, in which everything that differs from run to run (addresses, ids, times, rates) is replaced by a word.
 */
public final class MqAdmin {
    private static final String TOPIC = "mqadmin-topic";
    private static final String GROUP = "mqadmin-group";
    private static final Pattern WORD = Pattern.compile("\\S+");
    /** Values of the status with a number for each period that is over already: one more, a moment later. */
    private static final Pattern SAMPLES = Pattern.compile("(\\w+Tps|putMessageDistributeTime|remainHowMany\\w+)( *):.*");
    /** The original's tool gives up after five seconds, which may be too few on a busy machine. */
    private static final int TRIES = 5;
    /** Lists come in the order of some hash table. */
    private static final Comparator<String> BY_SHAPE = Comparator.comparing(line -> line.replaceAll("[0-9.]+", "0"));
    /** Commands that change nothing, so that both tools can show the same. */
    private static final Set<String> TABLES = Set.of("clusterList", "topicList", "brokerStatus", "topicRoute", "topicStatus",
        "getConsumerConfig", "consumerProgress", "consumerConnection", "producerConnection", "consumerStatus", "queryMsgByKey",
        "queryMsgById", "brokerConsumeStats", "statsAll", "queryCq", "haStatus");

    private final PrintStream console = System.out;
    private final PrintStream errors = System.err;
    private final String namesrv;
    private final String broker;
    private final Path oxmq;
    private String uniqueId = "none yet";
    private String offsetId = "none yet";
    private String clientId = "none yet";
    private Path folder;

    private MqAdmin(String namesrv, String broker, Path oxmq) {
        this.namesrv = namesrv;
        this.broker = broker;
        this.oxmq = oxmq;
    }

    public static void main(String[] args) throws Exception {
        try {
            Thread main = Thread.currentThread();
            Thread alarm = new Thread(() -> hurryShutdowns(main));
            alarm.setDaemon(true);
            alarm.start();
            new MqAdmin(args[0], args[1], args.length > 2 ? Path.of(args[2]) : null).scenario(new Env(args[0], "mqadmin"));
            System.exit(0);
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }

    /** Every command ends with a client's shutdown, which waits up to 3 s for a thread that sleeps: wakes it up. */
    private static void hurryShutdowns(Thread main) {
        while (true) {
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(20));
            if (Arrays.stream(main.getStackTrace()).anyMatch(frame -> frame.getMethodName().equals("shutdown")
                && frame.getClassName().endsWith(".ServiceThread"))) {
                Thread[] threads = new Thread[1000];
                Arrays.stream(threads, 0, Thread.enumerate(threads))
                    .filter(thread -> thread.getName().equals("NettyEventExecutor")
                        && Arrays.stream(thread.getStackTrace()).anyMatch(frame -> frame.getMethodName().equals("poll")))
                    .forEach(Thread::interrupt);
            }
        }
    }

    private void scenario(Env env) throws Exception {
        folder = Files.createTempDirectory("mqadmin");
        Files.writeString(folder.resolve("topics.json"),
            "[{\"topicName\":\"listed\",\"readQueueNums\":2,\"writeQueueNums\":2,\"perm\":6}]");
        Files.writeString(folder.resolve("groups.json"), "[{\"groupName\":\"listed-group\"}]");
        warmUp();
        commands("clusterList", "topicList", "topicList -c", "brokerStatus -b BROKER", "topicClusterList -t TBW102");

        commands("updateTopic -c DefaultCluster -t TOPIC -r 4 -w 4", "updateTopic -b BROKER -t ordered -r 2 -w 3 -o true",
            "updateTopic -b BROKER -t in/valid", "updateTopic -b BROKER -t TBW102");
        Env.await("routes", () -> !env.admin.examineTopicRouteInfo(TOPIC).getQueueDatas().isEmpty()
            && !env.admin.examineTopicRouteInfo("ordered").getQueueDatas().isEmpty());
        commands("topicList", "topicRoute -t TOPIC", "topicRoute -t TOPIC -l", "topicRoute -t ordered",
            "topicRoute -t missing", "topicStatus -t TOPIC", "topicStatus -t missing", "topicClusterList -t TOPIC",
            "updateTopicPerm -t TOPIC -p 4 -b BROKER", "updateTopicPerm -t TOPIC -p 6 -c DefaultCluster",
            "updateOrderConf -t TOPIC -m put -v broker-a:4", "updateOrderConf -t TOPIC -m get",
            "updateOrderConf -t TOPIC -m delete", "updateKvConfig -s space -k key -v value",
            "deleteKvConfig -s space -k key", "wipeWritePerm -b broker-a", "addWritePerm -b broker-a",
            "allocateMQ -t TOPIC -i 10.0.0.1,10.0.0.2,10.0.0.3", "updateTopicList -b BROKER -f TOPICS",
            "updateTopic -b BROKER -t listed -r 2 -w 2 -p 4 -a +message.type=FIFO",
            "updateTopicPerm -t TOPIC -p 6 -b BROKER", "updateTopicPerm -t TOPIC -p 4 -b 127.0.0.1:1");

        commands("updateBrokerConfig -b BROKER -k fileReservedTime -v 48", "getBrokerConfig -b BROKER",
            "updateBrokerConfig -c DefaultCluster -k fileReservedTime -v 72", "getBrokerConfig -c DefaultCluster",
            "updateNamesrvConfig -k enableTopicList -v true",
            "getNamesrvConfig", "updateNamesrvConfig -k kvConfigPath -v /tmp", "cleanExpiredCQ -b BROKER",
            "cleanUnusedTopic -c DefaultCluster", "deleteExpiredCommitLog -b BROKER", "haStatus -b BROKER",
            "getBrokerEpoch -b broker-a", "resetMasterFlushOffset -b BROKER -o 5",
            "updateColdDataFlowCtrGroupConfig -b BROKER -g GROUP -v 1048576", "getColdDataFlowCtrInfo -b BROKER",
            "updateColdDataFlowCtrGroupConfig -c DefaultCluster -g GROUP -v 2097152", "getColdDataFlowCtrInfo -c DefaultCluster",
            "removeColdDataFlowCtrGroupConfig -b BROKER -g GROUP",
            "removeColdDataFlowCtrGroupConfig -c DefaultCluster -g GROUP", "getColdDataFlowCtrInfo -b BROKER",
            "setCommitLogReadAheadMode -b BROKER -m 1", "setCommitLogReadAheadMode -c DefaultCluster -m 0",
            "checkRocksdbCqWriteProgress -c DefaultCluster -t TOPIC",
            "checkRocksdbCqWriteProgress -c DefaultCluster -cf 5", "switchTimerEngine -b BROKER -e F",
            "switchTimerEngine -c DefaultCluster -e F", "switchTimerEngine -b BROKER -e R", "switchTimerEngine -b BROKER -e X");

        commands("updateTopic -b BROKER -t sessions -r 2 -w 2 -a +lite.topic.expiration=60,+message.type=LITE",
            "updateSubGroup -b BROKER -g session-group --attributes +lite.bind.topic=sessions");
        Env.await("route", () -> !env.admin.examineTopicRouteInfo("sessions").getQueueDatas().isEmpty());
        commands("getBrokerLiteInfo -b BROKER", "getBrokerLiteInfo -c DefaultCluster -d", "getParentTopicInfo -p sessions",
            "getLiteTopicInfo -p sessions -l one -s", "getLiteClientInfo -p sessions -g session-group -c nobody -s",
            "getLiteGroupInfo -p sessions -g session-group", "getLiteGroupInfo -p sessions -g session-group -l one -k 3",
            "triggerLiteDispatch -p sessions -g session-group", "triggerLiteDispatch -p sessions -g session-group -c nobody -b broker-a",
            "deleteSubGroup -b BROKER -g session-group", "deleteTopic -c DefaultCluster -t sessions");

        commands("updateSubGroup -c DefaultCluster -g GROUP -s true -m true -d false -q 2 -r 5 -i 0 -w 1 -a true",
            "updateSubGroup -b BROKER -g GROUP -s true",
            "updateSubGroup -b BROKER -g GROUP --attributes +priority.factor=30",
            "updateSubGroup -b BROKER -g GROUP --attributes=-priority.factor", "getConsumerConfig -g GROUP", "updateSubGroupList -b BROKER -f GROUPS",
            "updateSubGroup -b BROKER -g other-group -p {\"type\":\"EXPONENTIAL\",\"exponentialRetryPolicy\":{\"initial\":1,\"max\":9,\"multiplier\":3}}",
            "setConsumeMode -b BROKER -t TOPIC -g listed-group -m POP -q 2", "consumerProgress -g GROUP",
            "consumerConnection -g GROUP", "producerConnection -g nobody -t TOPIC", "consumerStatus -g GROUP");

        int queue = 0;
        for (String body : Env.bodies("message", 10)) {
            SendResult sent = env.producer.send(Env.message(TOPIC, "tag", body),
                new MessageQueue(TOPIC, "broker-a", queue++ % 4));
            uniqueId = sent.getMsgId();
            offsetId = sent.getOffsetMsgId();
        }
        Env.await("index", () -> env.reader.queryMessage(TOPIC, "key-message-009", 1, 0, Long.MAX_VALUE).getMessageList()
            .size() == 1);
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("group");
        consumer.setConsumerGroup(GROUP);
        consumer.subscribe(TOPIC, "tag || other");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        received.awaitExactly("messages", Env.bodies("message", 10));
        Env.await("offsets", () -> {
            // The client's own timer first fires after ten seconds.
            consumer.getDefaultMQPushConsumerImpl().persistConsumerOffset();
            return env.admin.examineConsumeStats(GROUP).getOffsetTable().entrySet().stream()
                .filter(entry -> entry.getKey().getTopic().equals(TOPIC)
                    && entry.getValue().getConsumerOffset() == entry.getValue().getBrokerOffset()).count() == 4;
        });
        clientId = consumer.buildMQClientId();
        commands("topicStatus -t TOPIC", "topicStatus -t ordered", "consumerProgress -g GROUP",
            "consumerProgress -g GROUP -s true", "consumerConnection -g GROUP",
            "producerConnection -g mqadmin_shared -t TOPIC", "queryMsgByKey -t TOPIC -k key-message-003",
            "queryMsgByKey -t TOPIC -k nothing", "queryMsgByOffset -t TOPIC -b broker-a -i 1 -o 1",
            "queryMsgById -t TOPIC -i OFFSET_ID", "queryMsgByUniqueKey -t TOPIC -i UNIQUE_ID",
            "queryMsgByUniqueKey -t TOPIC -i 7F0000010001000000000000000A0001", "printMsg -t TOPIC -d false",
            "printMsg -t TOPIC -s other", "printMsgByQueue -t TOPIC -a broker-a -i 1 -p true -d true -f true",
            "consumeMessage -t TOPIC -b broker-a -i 0 -o 1 -c 2", "queryCq -t TOPIC -q 1 -i 0 -c 2",
            "brokerConsumeStats -b BROKER",
            "statsAll -t TOPIC", "consumerProgress -g GROUP -t TOPIC", "consumerStatus -g GROUP",
            "consumerStatus -g GROUP -i CLIENT_ID", "producer -b BROKER",
            "queryMsgById -t TOPIC -i UNIQUE_ID -g GROUP -d CLIENT_ID",
            "queryMsgTraceById -i UNIQUE_ID");

        consumer.shutdown();
        commands("consumerConnection -g GROUP", "consumerProgress -g GROUP", "consumerProgress",
            "resetOffsetByTime -g GROUP -t TOPIC -s 0", "resetOffsetByTime -g GROUP -t TOPIC -s now",
            "resetOffsetByTime -g GROUP -t TOPIC -s 0 -b BROKER -q 1 -o 2", "consumerProgress -g GROUP",
            "skipAccumulatedMessage -g GROUP -t TOPIC",
            "resetOffsetByTime -g GROUP -t missing -s now",
            "cloneGroupOffset -s GROUP -d missing-group -t TOPIC -o false",
            "cloneGroupOffset -s GROUP -d other-group -t TOPIC", "consumerProgress -g GROUP",
            "clusterList", "clusterList -m", "brokerStatus -b BROKER", "brokerStatus -c DefaultCluster");

        commands("sendMessage -t ordered -p hello -k key -c tag -b broker-a -i 1", "sendMessage -t ordered -p hello -i 1",
            "checkMsgSendRT -t ordered -a 3 -s 16", "sendMsgStatus -b broker-a -c 2 -s 16", "topicStatus -t ordered",
            "exportMetadata -c DefaultCluster -f FOLDER", "exportMetadata -c DefaultCluster -f FOLDER -t",
            "exportMetadata -c DefaultCluster -f FOLDER -g -s", "exportConfigs -c DefaultCluster -f FOLDER",
            "exportMetrics -c DefaultCluster -f FOLDER");

        commands("exportPopRecord -b BROKER", "getControllerMetaData -a 127.0.0.1:1", "getControllerConfig -a 127.0.0.1:1",
            "getSyncStateSet -a 127.0.0.1:1 -b broker-a", "electMaster -a 127.0.0.1:1 -b 1 -bn broker-a -c DefaultCluster",
            "cleanBrokerMetadata -a 127.0.0.1:1 -bn broker-a -c DefaultCluster", "addBroker -c BROKER -b broker.conf",
            "removeBroker -c BROKER -b DefaultCluster:broker-a:0");

        commands("createUser -b BROKER -u alice -p secret7 -t Normal", "createUser -b BROKER -u alice -p other7 -t Normal",
            "createUser -c DefaultCluster -u root -p secret7 -t Super", "updateUser -b BROKER -u alice -s disable",
            "updateUser -b BROKER -u nobody -p secret7", "getUser -b BROKER -u nobody", "getUser -b BROKER -u alice",
            "listUser -b BROKER", "listUser -c DefaultCluster -f ali",
            "createAcl -b BROKER -s User:alice -r Topic:orders,Group:* -a Pub,Sub -i 10.0.0.1,10.1.0.0/16 -d Allow",
            "createAcl -b BROKER -s User:nobody -r Topic:orders -a Pub -d Allow",
            "createAcl -b BROKER -s User:alice -r Topic:orders -a Drink -d Allow",
            "updateAcl -c DefaultCluster -s User:alice -r Topic:orders -a Sub -d Deny", "getAcl -b BROKER -s User:alice",
            "getAcl -b BROKER -s User:nobody", "listAcl -b BROKER", "listAcl -b BROKER -s alice -r Topic:orders",
            "deleteAcl -b BROKER -s User:alice -r Topic:orders", "listAcl -c DefaultCluster", "getAcl -c DefaultCluster -s User:alice",
            "getUser -c DefaultCluster -u alice", "copyAcl -f BROKER -t BROKER -s User:alice", "deleteAcl -b BROKER -s User:alice", "deleteUser -b BROKER -u alice",
            "deleteUser -b BROKER -u alice", "listUser -b BROKER");

        commands("deleteSubGroup -b BROKER -g GROUP -r true", "deleteSubGroup -c DefaultCluster -g other-group",
            "consumerProgress -g GROUP",
            "deleteTopic -c DefaultCluster -t TOPIC", "deleteTopic -c DefaultCluster -t ordered", "topicList",
            "topicRoute -t TOPIC", "topicStatus -t TOPIC");
    }

    /** The first command loads the tool's classes, which may take longer than it waits for an answer. */
    private void warmUp() {
        String[] command = {"clusterList", "-n", namesrv};
        for (int tries = 0; tries < TRIES && original(command).contains("Caused by: "); tries++) {
        }
    }

    private void commands(String... lines) throws Exception {
        for (String line : lines) {
            String[] words = (line.replace("BROKER", broker).replace("UNIQUE_ID", uniqueId)
                .replace("OFFSET_ID", offsetId).replace("CLIENT_ID", clientId).replace("FOLDER", folder.toString())
                .replace("TOPICS", folder + "/topics.json").replace("GROUPS", folder + "/groups.json").replace("TOPIC", TOPIC).replace("GROUP", GROUP) + " -n " + namesrv)
                .split(" ");
            console.println("$ mqadmin " + line);
            console.println(normal(words[0], oxmq == null ? original(words) : own(words)));
        }
    }

    private String original(String[] words) {
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        System.setOut(new PrintStream(output, true, StandardCharsets.UTF_8));
        System.setErr(System.out);
        MQAdminStartup.main0(words, null);
        System.setOut(console);
        System.setErr(errors);
        return output.toString(StandardCharsets.UTF_8);
    }

    private String own(String[] words) throws Exception {
        List<String> command = new ArrayList<>(List.of(oxmq.toString(), "admin"));
        command.addAll(List.of(words));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        boolean failed = process.waitFor() != 0;
        if (failed != output.contains("oxmq admin " + words[0] + ": ")) {
            throw new IllegalStateException("the exit code does not fit the output: " + output);
        }
        if (!failed && TABLES.contains(words[0])) {
            String original = original(words);
            for (int again = 1; again < TRIES && original.contains("Caused by: "); again++) {
                original = original(words);
            }
            compareColumns(original, output);
        }
        return output;
    }

    /** In every line each word has to begin or end where that of the original does: columns are aligned either way. */
    private static void compareColumns(String original, String own) {
        String[] expected = shapes(original.lines().filter(line -> !line.contains("|-")));
        String[] actual = shapes(own.lines());
        for (int i = 0; i < Math.max(expected.length, actual.length); i++) {
            String one = i < expected.length ? expected[i] : "nothing";
            String other = i < actual.length ? actual[i] : "nothing";
            if (!sameColumns(one, other)) {
                throw new IllegalStateException("other columns:\n" + one + "\n" + other);
            }
        }
    }

    private static String[] shapes(Stream<String> lines) {
        return lines.map(line -> SAMPLES.matcher(line).replaceAll("$1$2: SAMPLES")).sorted(BY_SHAPE).toArray(String[]::new);
    }

    private static boolean sameColumns(String one, String other) {
        List<MatchResult> expected = WORD.matcher(one).results().collect(Collectors.toList());
        List<MatchResult> actual = WORD.matcher(other).results().collect(Collectors.toList());
        return expected.size() == actual.size() && IntStream.range(0, expected.size()).allMatch(i ->
            expected.get(i).start() == actual.get(i).start() || expected.get(i).end() == actual.get(i).end());
    }

    private String normal(String command, String output) {
        Stream<String> lines = Arrays.stream(output.split("\n"))
            // Where the tool's own code failed is not the server's business, nor which group it reads with.
            .filter(line -> !line.matches("\\s+at .*|\\s+\\.\\.\\. .*") && !line.contains("|-")
                && !line.contains("TOOLS_CONSUMER"))
            .map(line -> line.replace(folder.toString(), "FOLDER").replace(namesrv, "NAMESRV").replace(broker, "BROKER").replace(offsetId, "OFFSET_ID")
                .replace(uniqueId, "UNIQUE_ID")
                .replaceAll("[0-9.:a-f]+@[0-9]+#[0-9]+", "CLIENT")
                .replaceAll("\\b[0-9A-F]{32,56}\\b", "ID")
                .replaceAll("127\\.0\\.0\\.1(:[0-9]+)?", "ADDRESS")
                .replaceAll("[0-9]{4}-[0-9]{2}-[0-9]{2}[ #][0-9:]{8}([,.:][0-9]{3})?", "TIME")
                .replaceAll("\\b[0-9]{13}\\b", "MILLIS")
                .replaceAll("\\b[0-9]+\\.[0-9]+\\b", "RATE")
                .replaceAll("\\b[0-9]+ms\\b", "Nms")
                .replaceAll("\\b[0-9]+-[0-9]+\\(", "PROGRESS(")
                .replaceAll("_/[^ :]*", "_PATH")
                .replaceAll(" +", " ").stripTrailing()
                .replaceAll("(OFFLINE|PULL|PUSH \\w+) [0-9]+ ([0-9]+)$", "$1 TPS $2"));
        switch (command) {
            // Of the status only a few numbers are the same every time.
            case "brokerStatus":
                lines = lines.map(line -> line.matches("(BROKER )?(msg|.*Capacity|brokerVersion).*") ? line
                    : line.replaceAll("[0-9]+", "N"))
                    .map(line -> SAMPLES.matcher(line).replaceAll("$1 : SAMPLES"));
                break;
            // Every server has settings of its own.
            case "getBrokerConfig":
            case "getNamesrvConfig":
                lines = lines.filter(line -> line.matches("=.*|(brokerName|fileReservedTime|flushDiskType|enableTopicList) .*"))
                    .sorted();
                break;
            // What the tools' own clients are called, and how long things take.
            case "producer":
                lines = lines.filter(line -> line.contains("mqadmin_shared")).map(line -> line.replaceAll("IP=[^,]*", "IP=ADDRESS"));
                break;
            case "checkMsgSendRT":
                lines = lines.map(line -> line.replaceAll("true [0-9]+$", "true N"));
                break;
            case "consumerStatus":
                lines = lines.filter(line -> !line.matches("(?!PROP_)\\w+ *:.*"))
                    .map(line -> line.replaceAll("[0-9]{17}", "TIME").replaceAll("MILLIS/.*", "FILE")
                    .replaceAll("(PROP_\\w*(TIMESTAMP|SIZE)) *:.*", "$1 : N")).sorted();
                break;
            case "queryMsgById":
            case "queryMsgByUniqueKey":
                lines = lines.map(line -> line.replaceAll("spentTimeMills=[0-9]+", "spentTimeMills=N"));
                break;
            // Counts samples that are taken every ten seconds.
            case "statsAll":
            // Queues of its own topics are made when each server thinks of them.
            case "getBrokerLiteInfo":
                lines = lines.map(line -> line.replaceAll(" [0-9]+", " N"));
                break;
            // Here passwords are for those who sign.
            case "getUser":
            case "listUser":
                lines = lines.map(line -> line.replaceAll("^(\\w+) (secret7 |null )?(Normal|Super)", "$1 PASSWORD $3"));
                break;
            // In the order of some hash table.
            case "topicList":
            case "skipAccumulatedMessage":
            case "resetOffsetByTime":
            case "brokerConsumeStats":
            case "consumerProgress":
                lines = lines.sorted();
                break;
            default:
        }
        return lines.collect(Collectors.joining("\n"));
    }
}
