// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync"

	"osmo.nvidia.com/benchmarks/peer/listenerpb"
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
