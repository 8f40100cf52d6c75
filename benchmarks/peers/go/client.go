// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"osmo.nvidia.com/protos/listenerpb"
)

type result struct {
	Acknowledged int     `json:"acknowledged"`
	Seconds      float64 `json:"seconds"`
	RoundTripsNs []int64 `json:"round_trips_ns"`
}

func clientCommand(flags *flag.FlagSet) func(context.Context) error {
	target := flags.String("connect", "", "where the server listens")
	messages := flags.Int("messages", 1, "messages that count")
	warmUp := flags.Int("warm-up", 0, "messages before these")
	size := flags.Int("window", 1, "unacknowledged messages at most")
	return func(ctx context.Context) error {
		call, close, err := connect(ctx, *target)
		if err != nil {
			return err
		}
		defer close()
		send := oneAtATime
		if *size > 1 {
			send = func(call stream, first, count int) ([]int64, error) {
				return []int64{}, windowed(call, first, count, *size)
			}
		}
		if _, err := send(call, 0, *warmUp); err != nil {
			return err
		}
		started := time.Now()
		trips, err := send(call, *warmUp, *messages)
		if err != nil {
			return err
		}
		done := result{*messages, time.Since(started).Seconds(), trips}
		return json.NewEncoder(os.Stdout).Encode(done)
	}
}

// A report of some 520 bytes on the wire, each of another task.
func report(number int) *listenerpb.ListenerMessage {
	name := fmt.Sprintf("%032x", number)
	return newMessage(&listenerpb.UpdatePodBody{
		WorkflowUuid: name, TaskUuid: name, Container: "train", Status: "RUNNING", ExitCode: -1,
		Node: "gpu-node-0042.example.internal", PodIp: "10.64.12.34",
		Message: strings.Repeat("m", 120), Backend: backend,
		Conditions: []*listenerpb.ConditionMessage{
			{Type: "PodScheduled", Status: true, Timestamp: "2026-01-02T03:04:05"},
			{Type: "Ready", Reason: "ContainersNotReady", Timestamp: "2026-01-02T03:04:05"},
		},
	})
}

// The next is sent when the last is acknowledged; the round trips in ns.
func oneAtATime(call stream, first, count int) ([]int64, error) {
	trips := make([]int64, 0, count)
	for number := first; number < first+count; number++ {
		started := time.Now()
		message := report(number)
		if err := call.Send(message); err != nil {
			return nil, err
		}
		ack, err := call.Recv()
		if err != nil {
			return nil, err
		}
		if ack.GetAckUuid() != message.GetUuid() {
			return nil, fmt.Errorf("sent %s, acknowledged %s", message.GetUuid(), ack.GetAckUuid())
		}
		trips = append(trips, time.Since(started).Nanoseconds())
	}
	return trips, nil
}

// At most size of them are without an acknowledgement.
func windowed(call stream, first, count, size int) error {
	open := newWindow(size)
	ended := open.readAcks(call, count)
	for number := first; number < first+count; number++ {
		select {
		case open.slots <- struct{}{}:
		case err := <-ended:
			return fmt.Errorf("while messages were sent: %w", err)
		}
		message := report(number)
		open.add(message)
		if err := call.Send(message); err != nil {
			return err
		}
	}
	return <-ended
}
