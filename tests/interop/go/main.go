// Command interop runs cases on the stock Go client: interop <name server> <label> <case>...
//
// It prints one line "RESULT {json}" per case. The facts in it depend on the server only, so that they can be
// compared. The broker-restart case comes last: it prints "WAITING broker-restart" and goes on when a line arrives.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

type facts map[string]any

const last = "broker-restart"

var cases = map[string]func(*env, facts){
	"send-sync":          sendSync,
	"send-async":         sendAsync,
	"send-oneway":        sendOneway,
	"send-batch":         sendBatch,
	"message-roundtrip":  messageRoundTrip,
	"topic-auto":         topicAuto,
	"topic-admin":        topicAdmin,
	"consume-concurrent": consumeConcurrent,
	"consume-orderly":    consumeOrderly,
	"consume-broadcast":  consumeBroadcast,
	"filter-tags":        filterTags,
	"filter-sql":         filterSQL,
	"consume-from-where": consumeFromWhere,
	"rebalance":          rebalance,
	"consumer-restart":   consumerRestart,
	"retry":              retry,
	"dead-letter":        deadLetter,
	"pull":               pull,
	"delay-level":        delayLevel,
	"delay-timer":        delayTimer,
	"transaction":        transaction,
	"quotas":             quotas,
	"acl":                acl,
	"acl-files":          acl,
	last:                 brokerRestart,
}

func main() {
	rlog.SetLogLevel("fatal")
	e := newEnv(os.Args[1], os.Args[2])
	var running sync.WaitGroup
	restart := false
	for _, name := range os.Args[3:] {
		if name == last {
			restart = true
			continue
		}
		running.Add(1)
		go func() {
			defer running.Done()
			runCase(e, name)
		}()
	}
	running.Wait()
	if restart {
		runCase(e, last)
	}
}

// awaitBrokerRestart tells the suite that the broker may be restarted now, and returns when it has been.
func awaitBrokerRestart() {
	fmt.Println("WAITING " + last)
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	must(err)
}

func runCase(e *env, name string) {
	result := map[string]any{"case": name}
	defer func() {
		if failure := recover(); failure != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n%s\n", name, failure, debug.Stack())
			result["error"] = fmt.Sprint(failure)
		}
		line, err := json.Marshal(result)
		must(err)
		fmt.Printf("RESULT %s\n", line)
	}()
	body, known := cases[name]
	if !known {
		result["skipped"] = true
		return
	}
	f := facts{}
	body(e, f)
	result["facts"] = f
}
