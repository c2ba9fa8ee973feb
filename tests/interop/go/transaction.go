package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// script does what the body says: <answer now>-<answer when asked>-….
type script struct {
	mutex  sync.Mutex
	checks map[string]int
}

func (s *script) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	return transactionState(strings.Split(string(m.Body), "-")[0])
}

func (s *script) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	body := string(m.Body)
	s.checks[body]++
	answers := strings.Split(strings.Split(body, "-")[1], "_")
	return transactionState(answers[min(s.checks[body], len(answers))-1])
}

func (s *script) asked(body string) int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.checks[body]
}

func transactionState(word string) primitive.LocalTransactionState {
	switch word {
	case "commit":
		return primitive.CommitMessageState
	case "rollback":
		return primitive.RollbackMessageState
	default:
		return primitive.UnknowState
	}
}

func transaction(e *env, f facts) {
	topic := e.name("transaction")
	e.createTopic(topic, 1)
	s := &script{checks: map[string]int{}}
	p, err := rocketmq.NewTransactionProducer(s, producer.WithNameServer(e.namesrv),
		producer.WithGroupName(e.name("transaction")), producer.WithInstanceName("transaction"),
		producer.WithSendMsgTimeout(10*time.Second))
	must(err)
	must(p.Start())
	for _, body := range []string{"commit-no-1", "rollback-no-1", "unknown-commit-1", "unknown-rollback-1",
		"unknown-unknown_commit-1", "commit-no-2"} {
		result, err := p.SendMessageInTransaction(context.Background(), message(topic, "tag", body))
		must(err)
		equal("status", primitive.SendOK, result.Status)
		check(result.TransactionID != "", "a transaction has no id")
	}
	await("checks", func() bool { return s.asked("unknown-rollback-1") > 0 && s.asked("unknown-unknown_commit-1") > 1 })
	stored := e.readAll(topic, 4)
	equal("committed", []string{"commit-no-1", "commit-no-2", "unknown-commit-1", "unknown-unknown_commit-1"},
		sorted(bodiesOf(stored)))
	names := []string{}
	for name := range stored[0].GetProperties() {
		names = append(names, name)
	}
	slices.Sort(names)
	f["properties"] = names
	f["flags"] = stored[0].SysFlag
	must(p.Shutdown())
}
