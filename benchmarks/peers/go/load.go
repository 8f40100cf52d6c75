// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"osmo.nvidia.com/protos/listenerpb"
)

type event struct {
	AfterMs  float64 `json:"after_ms"`
	Workflow string  `json:"workflow"`
	Task     string  `json:"task"`
	Status   string  `json:"status"`
}

func loadCommand(flags *flag.FlagSet) func(context.Context) error {
	target := flags.String("connect", "", "where the server listens")
	path := flags.String("plan", "", "file of what is to be reported, and when")
	return func(ctx context.Context) error {
		plan, err := readPlan(*path)
		if err != nil {
			return err
		}
		call, close, err := connect(ctx, *target)
		if err != nil {
			return err
		}
		defer close()
		return play(call, plan)
	}
}

func readPlan(path string) ([]event, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the plan: %w", err)
	}
	defer file.Close()
	var plan []event
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var next event
		if err := json.Unmarshal(lines.Bytes(), &next); err != nil {
			return nil, fmt.Errorf("%s is no plan: %w", path, err)
		}
		plan = append(plan, next)
	}
	return plan, lines.Err()
}

// Each report at its time; returns when all are acknowledged.
func play(call stream, plan []event) error {
	open := newWindow(len(plan) + 1) // The plan bounds what is in flight.
	ended := open.readAcks(call, len(plan))
	started := time.Now()
	for _, next := range plan {
		time.Sleep(time.Until(started.Add(time.Duration(next.AfterMs * float64(time.Millisecond)))))
		message := newMessage(&listenerpb.UpdatePodBody{
			WorkflowUuid: next.Workflow, TaskUuid: next.Task, Status: next.Status,
			Container: "train", Node: "gpu-node-0042.example.internal", PodIp: "10.64.12.34",
			ExitCode: -1, Backend: backend,
		})
		open.slots <- struct{}{}
		open.add(message)
		if err := call.Send(message); err != nil {
			return err
		}
	}
	return <-ended
}
