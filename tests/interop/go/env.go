package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// When this client starts right after a stop, the broker may wait for the old connection to expire (120 s).
const deadline = 150 * time.Second

// env is what all cases share: one producer, one reader, one admin client and the label that keeps clients apart.
type env struct {
	namesrv  primitive.NamesrvAddr
	label    string
	producer rocketmq.Producer
	admin    admin.Admin
	reader   rocketmq.PullConsumer
}

func newEnv(namesrv, label string) *env {
	e := &env{namesrv: primitive.NamesrvAddr{namesrv}, label: label}
	var err error
	e.producer, err = rocketmq.NewProducer(producer.WithNameServer(e.namesrv),
		producer.WithGroupName(e.name("shared")), producer.WithInstanceName("producer"),
		producer.WithSendMsgTimeout(10*time.Second),
		producer.WithQueueSelector(selector{producer.NewRoundRobinQueueSelector(), producer.NewManualQueueSelector()}))
	must(err)
	must(e.producer.Start())
	e.admin, err = admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(e.namesrv)))
	must(err)
	e.reader, err = rocketmq.NewPullConsumer(consumer.WithNameServer(e.namesrv),
		consumer.WithGroupName(e.name("reader")), consumer.WithInstance("reader"))
	must(err)
	// It reads where it is told to, but has to subscribe to some topic that has a route.
	must(e.reader.Subscribe("TBW102", everything))
	must(e.reader.Start())
	return e
}

// selector takes the message's own queue if it has one.
type selector struct{ rest, own producer.QueueSelector }

func (s selector) Select(m *primitive.Message, queues []*primitive.MessageQueue, last string) *primitive.MessageQueue {
	if m.Queue != nil {
		return s.own.Select(m, queues, last)
	}
	return s.rest.Select(m, queues, last)
}

var everything = consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}

func (e *env) name(part string) string { return e.label + "_" + part }

func message(topic, tag, body string) *primitive.Message {
	return primitive.NewMessage(topic, []byte(body)).WithTag(tag).WithKeys([]string{"key-" + body})
}

func bodies(prefix string, count int) []string {
	var result []string
	for i := range count {
		result = append(result, fmt.Sprintf("%s-%03d", prefix, i))
	}
	return result
}

func (e *env) send(topic, prefix string, count int) {
	for _, body := range bodies(prefix, count) {
		result, err := e.producer.SendSync(context.Background(), message(topic, "tag", body))
		must(err)
		equal("status", primitive.SendOK, result.Status)
	}
}

func (e *env) createTopic(topic string, queues int) {
	must(e.admin.CreateTopic(context.Background(), admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(e.brokerAddr()),
		admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues)))
	await("route of "+topic, func() bool { return len(e.queues(topic)) == queues })
}

// brokerAddr is the suite's convention: ten ports above the name server.
func (e *env) brokerAddr() string {
	var port int
	_, err := fmt.Sscanf(e.namesrv[0], "127.0.0.1:%d", &port)
	must(err)
	return fmt.Sprintf("127.0.0.1:%d", port+10)
}

// queues is empty while the topic has no route; the client never asks again once it knows one.
func (e *env) queues(topic string) []*primitive.MessageQueue {
	queues, err := e.admin.FetchPublishMessageQueues(context.Background(), topic)
	if err != nil {
		return nil
	}
	sort.Slice(queues, func(i, j int) bool { return queues[i].QueueId < queues[j].QueueId })
	return queues
}

// readAll returns everything in the topic, queue by queue in order, once it is as many messages as expected.
// (A message can be pulled a moment after it has been acknowledged.)
func (e *env) readAll(topic string, expected int) (result []*primitive.MessageExt) {
	await(fmt.Sprint(expected, " messages in ", topic), func() bool {
		result = nil
		for _, queue := range e.queues(topic) {
			// At the end of a queue a pull of this client would wait at the broker for 20 s.
			for offset, end := int64(0), int64(1); offset < end; {
				pulled, err := e.reader.PullFrom(context.Background(), queue, offset, 32)
				must(err)
				result = append(result, pulled.GetMessageExts()...)
				offset, end = pulled.NextBeginOffset, pulled.MaxOffset
			}
		}
		return len(result) >= expected
	})
	equal("messages in "+topic, expected, len(result))
	return result
}

// received collects what a consumer is given.
type received struct {
	mutex    sync.Mutex
	messages []*primitive.MessageExt
}

func (r *received) add(messages []*primitive.MessageExt) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.messages = append(r.messages, messages...)
}

func (r *received) all() []*primitive.MessageExt {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.messages)
}

func (r *received) bodies() []string { return bodiesOf(r.all()) }

func bodiesOf(messages []*primitive.MessageExt) []string {
	result := []string{}
	for _, m := range messages {
		result = append(result, string(m.Body))
	}
	return result
}

func sorted(list []string) []string {
	result := slices.Clone(list)
	slices.Sort(result)
	return result
}

// awaitExactly waits until as many messages have come as expected, then wants exactly these, each once.
func (r *received) awaitExactly(what string, expected []string) {
	defer func() {
		if failure := recover(); failure != nil {
			panic(fmt.Sprint(failure, ", got ", sorted(r.bodies())))
		}
	}()
	await(what, func() bool { return len(r.all()) >= len(expected) })
	equal(what, sorted(expected), sorted(r.bodies()))
}

// consume starts a push consumer on one topic that acknowledges everything.
func (e *env) consume(group, topic string, r *received, options ...consumer.Option) rocketmq.PushConsumer {
	return e.consumeWith(group, topic, everything, func(_ context.Context, messages []*primitive.MessageExt) consumer.ConsumeResult {
		r.add(messages)
		return consumer.ConsumeSuccess
	}, options...)
}

// settle gives a consumer the moment that it needs, after the listener has returned, to note what is consumed.
// This client has no way to ask.
func settle() { time.Sleep(500 * time.Millisecond) }

var instances struct {
	sync.Mutex
	count int
}

func (e *env) consumeWith(group, topic string, selector consumer.MessageSelector,
	listener func(context.Context, []*primitive.MessageExt) consumer.ConsumeResult, options ...consumer.Option) rocketmq.PushConsumer {
	instances.Lock()
	instances.count++
	instance := fmt.Sprint("consumer-", instances.count)
	instances.Unlock()
	options = append([]consumer.Option{consumer.WithNameServer(e.namesrv), consumer.WithGroupName(e.name(group)),
		consumer.WithInstance(instance), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset)}, options...)
	c, err := rocketmq.NewPushConsumer(options...)
	must(err)
	must(c.Subscribe(topic, selector, func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		return listener(ctx, messages), nil
	}))
	must(c.Start())
	return c
}

func propertyNames(m *primitive.MessageExt) []string {
	result := []string{}
	for name := range m.GetProperties() {
		result = append(result, name)
	}
	return sorted(result)
}

func await(what string, condition func() bool) {
	for end := time.Now().Add(deadline); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			panic("waited in vain for " + what)
		}
	}
}

func equal(what string, expected, actual any) {
	if !reflect.DeepEqual(expected, actual) {
		panic(fmt.Sprintf("%s: expected %v, got %v", what, expected, actual))
	}
}

func check(condition bool, what string) {
	if !condition {
		panic(what)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
