// SPDX-License-Identifier: Apache-2.0

// A listener as they were deployed before this project: generated from the same contract, with a
// window of unacknowledged messages, which it sends again after a reconnect in any order.
//
// It prints a line of JSON for each thing that happens, the last of which is a summary, and fails
// when something happened that a deployed listener could not live with.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"osmo.nvidia.com/protos/listenerpb"
)

// Of the deployed listener, for its unary calls.
const retryPolicy = `{"methodConfig": [{"name": [{"service": "operator.ListenerService"}],
  "retryPolicy": {"maxAttempts": 5, "initialBackoff": "1s", "maxBackoff": "20s",
  "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", "DEADLINE_EXCEEDED"]}}]}`

type options struct {
	target    string
	backend   string
	mode      string
	messages  int
	window    int
	parallel  int
	kinds     string
	pause     time.Duration
	uid       string
	heartbeat time.Duration
}

func say(event map[string]any) {
	line, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func main() {
	var o options
	flag.StringVar(&o.target, "target", "127.0.0.1:8002", "host:port of the operator")
	flag.StringVar(&o.backend, "backend", "deployed", "name of the backend")
	flag.StringVar(&o.mode, "mode", "stream", "stream, unary, conditions or init")
	flag.IntVar(&o.messages, "messages", 100, "how many messages")
	flag.IntVar(&o.window, "window", 100, "unacknowledged messages at most")
	flag.IntVar(&o.parallel, "parallel", 100, "unary calls at once")
	flag.StringVar(&o.kinds, "kinds", "all", "all, or update_pod")
	flag.DurationVar(&o.pause, "pause", 100*time.Millisecond, "between two connections")
	flag.StringVar(&o.uid, "uid", "uid-1", "of the cluster")
	flag.DurationVar(&o.heartbeat, "heartbeat", 20*time.Second, "between two heartbeats")
	deadline := flag.Duration("deadline", time.Minute, "for everything")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), *deadline)
	defer cancel()
	connection, err := grpc.NewClient(o.target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(retryPolicy),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 40 * time.Second, Timeout: 20 * time.Second, PermitWithoutStream: true,
		}))
	if err != nil {
		fail(err)
	}
	defer connection.Close()
	client := listenerpb.NewListenerServiceClient(connection)
	named := metadata.AppendToOutgoingContext(ctx, "backend-name", o.backend)
	switch o.mode {
	case "stream":
		err = stream(named, client, o)
	case "unary":
		err = unary(named, client, o)
	case "conditions":
		err = conditions(named, client, o)
	case "init":
		err = initialize(ctx, client, o)
	default:
		err = fmt.Errorf("no mode %q", o.mode)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	say(map[string]any{"event": "failed", "error": err.Error()})
	os.Exit(1)
}

func initialize(ctx context.Context, client listenerpb.ListenerServiceClient, o options) error {
	response, err := client.InitBackend(ctx, &listenerpb.InitBackendRequest{
		InitBody: &listenerpb.InitBody{
			K8SUid: o.uid, K8SNamespace: "osmo", Name: o.backend, Version: "6.0",
			NodeConditionPrefix: "osmo.nvidia.com/",
		},
	}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	say(map[string]any{"event": "init", "success": response.Success, "message": response.Message})
	return nil
}

func conditions(ctx context.Context, client listenerpb.ListenerServiceClient, o options) error {
	call, err := client.NodeConditionStream(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	go func() {
		for call.Context().Err() == nil {
			now := time.Now().UTC().Format(time.RFC3339)
			if call.Send(&listenerpb.HeartbeatMessage{Time: now}) != nil {
				return
			}
			time.Sleep(o.heartbeat)
		}
	}()
	for {
		response, err := call.Recv()
		if err != nil {
			return err
		}
		if rules := response.GetNodeConditions(); rules != nil {
			say(map[string]any{"event": "rules", "rules": rules.Rules})
		} else {
			say(map[string]any{"event": "heartbeat", "time": response.GetHeartbeat().GetTime()})
		}
	}
}
