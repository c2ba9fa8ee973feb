package main

import (
	"context"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// acl sends with the accounts of the suite's file, in either form of access control.
func acl(e *env, f facts) {
	f["allowed"] = e.sendAs("keeper7", "12345678", "acl-open")
	f["denied"] = e.sendAs("keeper7", "12345678", "acl-closed")
	f["to read only"] = e.sendAs("keeper7", "12345678", "acl-read")
	f["wrong secret"] = e.sendAs("keeper7", "87654321", "acl-open")
	f["nobody"] = e.sendAs("nobody7", "12345678", "acl-open")
	f["administrator"] = e.sendAs("operator7", "12345678", "acl-other")

	r := &received{}
	c, err := rocketmq.NewPushConsumer(consumer.WithNameServer(e.namesrv), consumer.WithGroupName(e.name("acl")),
		consumer.WithInstance("acl"), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithCredentials(credentials("keeper7", "12345678")))
	must(err)
	must(c.Subscribe("acl-open", everything, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		r.add(messages)
		return consumer.ConsumeSuccess, nil
	}))
	must(c.Start())
	await("a message", func() bool { return len(r.all()) > 0 })
	must(c.Shutdown())
}

func credentials(user, secret string) primitive.Credentials {
	return primitive.Credentials{AccessKey: user, SecretKey: secret}
}

func (e *env) sendAs(user, secret, topic string) string {
	p, err := rocketmq.NewProducer(producer.WithNameServer(e.namesrv), producer.WithGroupName(e.name("acl")),
		producer.WithInstanceName(user+secret+topic), producer.WithRetry(0), producer.WithCredentials(credentials(user, secret)))
	must(err)
	must(p.Start())
	defer p.Shutdown()
	if _, err = p.SendSync(context.Background(), message(topic, "tag", "message")); err != nil {
		return "refused"
	}
	return "sent"
}
