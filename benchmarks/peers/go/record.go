// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"osmo.nvidia.com/protos/listenerpb"
)

const (
	// Below the 50 ms that readers count on.
	flushInterval = 20 * time.Millisecond
	// Records that wait for the file: more than any experiment has messages in flight.
	recordBuffer = 16_384
)

type record struct {
	At      int64  `json:"at"`
	Created int64  `json:"created"`
	Key     string `json:"key"`
	Status  string `json:"status"`
	Acked   int64  `json:"acked"`
	Done    int64  `json:"done,omitempty"`
	Worker  string `json:"worker,omitempty"`
}

// What has been seen of a message that reports a pod.
func recordOf(message *listenerpb.ListenerMessage, at int64) (record, bool) {
	body := message.GetUpdatePod()
	if body == nil {
		return record{}, false
	}
	return record{
		At: at, Created: created(message),
		Key: body.GetWorkflowUuid() + "/" + body.GetTaskUuid(), Status: body.GetStatus(),
	}, true
}

// The monotonic clock that all processes of a machine share, in ns.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // It has to be there on every system that Go runs on.
	}
	return now.Nano()
}

// Writes records to a file, beside the work that they are about.
type recorder struct {
	records chan record
	written sync.WaitGroup
	err     error
}

// A recorder that appends to the file at path; without a path it keeps nothing.
func newRecorder(path string) (*recorder, error) {
	if path == "" {
		return &recorder{}, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot record: %w", err)
	}
	r := &recorder{records: make(chan record, recordBuffer)}
	r.written.Go(func() { r.err = r.write(file) })
	return r, nil
}

func (r *recorder) add(seen record) {
	if r.records != nil {
		r.records <- seen
	}
}

// Write what is left.
func (r *recorder) close() error {
	if r.records != nil {
		close(r.records)
		r.written.Wait()
	}
	return r.err
}

func (r *recorder) write(file *os.File) error {
	defer file.Close()
	buffer := bufio.NewWriter(file)
	encoder := json.NewEncoder(buffer)
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for {
		select {
		case seen, open := <-r.records:
			if !open {
				return buffer.Flush()
			}
			if err := encoder.Encode(seen); err != nil {
				return err
			}
		case <-ticker.C:
			if err := buffer.Flush(); err != nil {
				return err
			}
		}
	}
}
