// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync"

	"osmo.nvidia.com/protos/listenerpb"
)

// What was sent and is not acknowledged. A slot is taken before a message is added.
type window struct {
	slots    chan struct{}
	mutex    sync.Mutex
	messages map[string]*listenerpb.ListenerMessage
}

func newWindow(size int) *window {
	return &window{
		slots:    make(chan struct{}, size),
		messages: make(map[string]*listenerpb.ListenerMessage, size),
	}
}

func (w *window) add(message *listenerpb.ListenerMessage) {
	w.mutex.Lock()
	w.messages[message.GetUuid()] = message
	w.mutex.Unlock()
}

// Each message has to be acknowledged exactly once.
func (w *window) acknowledge(uuid string) error {
	w.mutex.Lock()
	_, there := w.messages[uuid]
	delete(w.messages, uuid)
	w.mutex.Unlock()
	if !there {
		return fmt.Errorf("an acknowledgement of %q, which is not awaited", uuid)
	}
	<-w.slots
	return nil
}

// Read count acknowledgements beside the sending; what it ends with is sent once.
func (w *window) readAcks(call stream, count int) <-chan error {
	ended := make(chan error, 1)
	go func() {
		for range count {
			ack, err := call.Recv()
			if err == nil {
				err = w.acknowledge(ack.GetAckUuid())
			}
			if err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	return ended
}
