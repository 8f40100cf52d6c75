// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func waiting(name, reason string) corev1.ContainerStatus {
	state := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	return corev1.ContainerStatus{Name: name, State: state}
}

func terminated(name, reason string, code int32) corev1.ContainerStatus {
	ended := &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code}
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: ended}}
}

func saying(message string, container corev1.ContainerStatus) corev1.ContainerStatus {
	container.State.Terminated.Message = message
	return container
}

func TestStatusOf(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	notReady := func(since time.Duration) []corev1.PodCondition {
		return []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionFalse,
			LastTransitionTime: metav1.NewTime(now.Add(-since)),
		}}
	}
	containers := func(all ...corev1.ContainerStatus) []corev1.ContainerStatus { return all }
	for name, row := range map[string]struct {
		status corev1.PodStatus
		want   string
		code   int32
	}{
		"pending":   {corev1.PodStatus{Phase: "Pending"}, "SCHEDULING", -1},
		"running":   {corev1.PodStatus{Phase: "Running"}, "RUNNING", -1},
		"succeeded": {corev1.PodStatus{Phase: "Succeeded"}, "COMPLETED", 0},
		"failed":    {corev1.PodStatus{Phase: "Failed"}, "FAILED", 4000},
		"evicted":   {corev1.PodStatus{Phase: "Failed", Reason: "Evicted"}, "FAILED_EVICTED", 3004},
		"preempted": {corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Status: "True", Reason: "PreemptionByScheduler",
		}}}, "FAILED_PREEMPTED", 3006},
		"initializing": {corev1.PodStatus{
			Phase: "Pending", InitContainerStatuses: containers(waiting("osmo-init", "PodInitializing")),
		}, "INITIALIZING", -1},
		"image pull": {corev1.PodStatus{
			Phase: "Pending", ContainerStatuses: containers(waiting("train", "ErrImagePull")),
		}, "FAILED_IMAGE_PULL", 302},
		"out of memory": {corev1.PodStatus{
			ContainerStatuses: containers(terminated("train", "OOMKilled", 137)),
		}, "FAILED_EVICTED", 3004},
		"exit code with offset": {corev1.PodStatus{
			Phase: "Failed", ContainerStatuses: containers(terminated("osmo-ctrl", "Error", 1)),
		}, "FAILED", 2001},
		"exit code that osmo-ctrl says": {corev1.PodStatus{
			Phase:             "Failed",
			ContainerStatuses: containers(saying(`{"code": 13}`, terminated("osmo-ctrl", "Error", 1))),
		}, "FAILED", 2013},
		"osmo-ctrl still runs": {corev1.PodStatus{
			Phase:             "Running",
			ContainerStatuses: containers(terminated("train", "Error", 1), waiting("osmo-ctrl", "")),
		}, "RUNNING", -1},
		"recent config error": {corev1.PodStatus{
			Conditions:        notReady(time.Minute),
			ContainerStatuses: containers(waiting("train", "CreateContainerConfigError")),
		}, "UNKNOWN", -1},
		"old config error": {corev1.PodStatus{
			Conditions:        notReady(11 * time.Minute),
			ContainerStatuses: containers(waiting("train", "CreateContainerConfigError")),
		}, "FAILED_BACKEND_ERROR", 3001},
	} {
		t.Run(name, func(t *testing.T) {
			got := statusOf(&corev1.Pod{Status: row.status}, now)
			if got.status != row.want || got.exitCode != row.code {
				t.Errorf("got %s/%d, want %s/%d", got.status, got.exitCode, row.want, row.code)
			}
		})
	}
}
