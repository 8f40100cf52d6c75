// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"osmo.nvidia.com/protos/listenerpb"
)

// A report of about 520 bytes, of the kind that comes to its turn; each about another resource.
func report(number int, kinds string) *listenerpb.ListenerMessage {
	message := &listenerpb.ListenerMessage{
		Uuid:      newUUID(),
		Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05.999999"),
	}
	name := fmt.Sprintf("%032x", number)
	turn := number % 6
	if kinds == "update_pod" {
		turn = 0
	}
	switch turn {
	case 0:
		message.Body = &listenerpb.ListenerMessage_UpdatePod{UpdatePod: &listenerpb.UpdatePodBody{
			WorkflowUuid: name, TaskUuid: name, Container: "train",
			Node: "gpu-node-0042.example.internal", PodIp: "10.64.12.34", Status: "RUNNING",
			Message: strings.Repeat("m", 120), ExitCode: -1, Backend: "deployed",
			Conditions: []*listenerpb.ConditionMessage{
				{Type: "PodScheduled", Status: true, Timestamp: "2026-01-02T03:04:05"},
				{Type: "Ready", Reason: "ContainersNotReady", Message: "containers with unready status",
					Timestamp: "2026-01-02T03:04:05"},
			},
		}}
	case 1:
		message.Body = &listenerpb.ListenerMessage_UpdateNode{UpdateNode: &listenerpb.UpdateNodeBody{
			Hostname: name, Available: true, Conditions: []string{"Ready"},
			ProcessedFields:   map[string]string{"Pool": "default"},
			AllocatableFields: map[string]string{"cpu": "8", "memory": "65536Ki"},
			LabelFields:       map[string]string{"kubernetes.io/hostname": name},
			Taints:            []*listenerpb.Taint{{Key: "gpu", Value: "true", Effect: "NoSchedule"}},
		}}
	case 2:
		message.Body = &listenerpb.ListenerMessage_UpdateNodeUsage{
			UpdateNodeUsage: &listenerpb.UpdateNodeUsageBody{
				Hostname: name, UsageFields: map[string]string{"cpu": "3"},
				NonWorkflowUsageFields: map[string]string{"cpu": "1"},
			}}
	case 3:
		message.Body = &listenerpb.ListenerMessage_NodeInventory{
			NodeInventory: &listenerpb.NodeInventoryBody{Hostnames: []string{name, "node-2"}}}
	case 4:
		message.Body = &listenerpb.ListenerMessage_PodEvent{PodEvent: &listenerpb.PodEventBody{
			PodName: name, Reason: "Failed", Message: "image not found",
			Timestamp: "2026-01-02T03:04:05",
		}}
	case 5:
		message.Body = &listenerpb.ListenerMessage_Logging{Logging: &listenerpb.LoggingBody{
			Type: listenerpb.LoggingType_WARNING, Text: "the cache was rebuilt", WorkflowUuid: name,
		}}
	}
	return message
}

// A uuid4 as 32 hex digits.
func newUUID() string {
	var bytes [16]byte
	rand.Read(bytes[:])
	bytes[6] = bytes[6]&0x0f | 0x40
	bytes[8] = bytes[8]&0x3f | 0x80
	return hex.EncodeToString(bytes[:])
}
