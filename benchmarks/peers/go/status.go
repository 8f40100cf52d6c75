// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const noExitCode = -1

type podState struct {
	status   string
	exitCode int32
	message  string
}

type containerError struct {
	container, reason, message string
	code                       int32
}

var waitingCodes = map[string]int32{
	"ImagePullBackOff": 301, "ErrImagePull": 302, "CreateContainerConfigError": 303,
	"CrashLoopBackOff": 304, "ContainerStatusUnknown": 305,
}

var waitingErrors = []string{"Failed", "BackOff", "Err", "ContainerStatusUnknown"}

var offsets = map[string]int32{"osmo-init": 255, "preflight-test": 1000, "osmo-ctrl": 2000}

var displayNames = map[string]string{
	"osmo-ctrl": "OSMO Control", "preflight-test": "OSMO Preflight Test", "osmo-init": "OSMO Init",
}

// Reasons that a container may have for so long before its pod fails.
var stuckLimits = map[string]time.Duration{
	"CreateContainerConfigError": 10 * time.Minute, "ContainerStatusUnknown": 30 * time.Minute,
}

// The status that users see; the first rule that matches wins.
func statusOf(pod *corev1.Pod, now time.Time) podState {
	switch status := &pod.Status; status.Reason {
	case "Evicted":
		return podState{"FAILED_EVICTED", 3004, "Pod was evicted: " + status.Message + ". "}
	case "StartError":
		return podState{"FAILED_START_ERROR", 3003, "Pod failed to start: " + status.Message + ". "}
	case "UnexpectedAdmissionError":
		return podState{"FAILED_BACKEND_ERROR", 3001, "Pod admission error: " + status.Message + ". "}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			continue
		}
		if condition.Reason == "PreemptionByScheduler" {
			at := condition.LastTransitionTime.UTC()
			return podState{"FAILED_PREEMPTED", 3006, fmt.Sprintf("Pod was preempted at %v. ", at)}
		}
		if condition.Type == corev1.DisruptionTarget {
			return podState{"FAILED_BACKEND_ERROR", 3001, "Pod disrupted: " + condition.Message + ". "}
		}
	}
	if errors := containerErrors(&pod.Status); len(errors) > 0 {
		if state := byErrors(pod, errors, now); state.status != "FAILED" || ctrlEnded(&pod.Status) {
			return state
		}
	} else if pod.Status.Phase == corev1.PodFailed {
		return podState{"FAILED", 4000, podError(pod, ". ")}
	}
	return byPhase(&pod.Status)
}

func byPhase(status *corev1.PodStatus) podState {
	state := podState{"UNKNOWN", noExitCode, status.Message}
	switch status.Phase {
	case corev1.PodPending:
		state.status = "SCHEDULING"
	case corev1.PodRunning:
		state.status = "RUNNING"
	case corev1.PodSucceeded:
		state.status, state.exitCode = "COMPLETED", 0
	}
	for _, container := range status.InitContainerStatuses {
		if waiting := container.State.Waiting; waiting != nil &&
			(waiting.Reason == "ContainerCreating" || waiting.Reason == "PodInitializing") {
			state.status, state.exitCode = "INITIALIZING", noExitCode
		}
	}
	return state
}

func containerErrors(status *corev1.PodStatus) []containerError {
	var errors []containerError
	for _, statuses := range [][]corev1.ContainerStatus{
		status.InitContainerStatuses, status.ContainerStatuses,
	} {
		for _, container := range statuses {
			code, reason, message := int32(noExitCode), "", ""
			if ended := container.State.Terminated; ended != nil {
				reason, message = ended.Reason, ended.Message
				if reason != "Completed" {
					code = terminatedCode(container.Name, ended)
				}
			} else if waiting := container.State.Waiting; waiting != nil {
				reason, message = waiting.Reason, waiting.Message
				code = waitingCode(reason)
			}
			if code != noExitCode {
				code += offsets[container.Name]
				errors = append(errors, containerError{container.Name, reason, message, code})
			}
		}
	}
	return errors
}

func waitingCode(reason string) int32 {
	if !slices.ContainsFunc(waitingErrors, func(part string) bool {
		return strings.Contains(reason, part)
	}) {
		return noExitCode
	}
	if code, known := waitingCodes[reason]; known {
		return code
	}
	return 999
}

func terminatedCode(container string, ended *corev1.ContainerStateTerminated) int32 {
	var said struct {
		Code *int32 `json:"code"`
	}
	if container == "osmo-ctrl" && json.Unmarshal([]byte(ended.Message), &said) == nil &&
		said.Code != nil {
		return *said.Code
	}
	return ended.ExitCode
}

func byErrors(pod *corev1.Pod, errors []containerError, now time.Time) podState {
	message := podError(pod, ". \n") + "Failure reason:"
	state := podState{"FAILED", errors[0].code, ""}
	for _, each := range errors {
		message += each.String()
		state.exitCode = max(state.exitCode, each.code)
	}
	for _, each := range errors {
		switch each.reason {
		case "OOMKilled":
			return podState{"FAILED_EVICTED", 3004, message}
		case "StartError":
			return podState{"FAILED_START_ERROR", 3003, message}
		case "ErrImagePull", "ImagePullBackOff":
			return podState{"FAILED_IMAGE_PULL", each.code, message}
		}
		if limit, limited := stuckLimits[each.reason]; limited {
			if stuck(&pod.Status, limit, now) {
				return podState{"FAILED_BACKEND_ERROR", 3001, message}
			}
			return podState{"UNKNOWN", noExitCode, message}
		}
	}
	state.message = message
	return state
}

func (e containerError) String() string {
	name, known := displayNames[e.container]
	if !known {
		name = "Task " + e.container
	}
	end := "failure"
	if e.reason != "" {
		end = "failed with " + e.reason
	}
	text := fmt.Sprintf("\n- Exit code %d due to %s %s", e.code, name, end)
	if e.message != "" {
		text += ": " + e.message
	}
	return text + ". "
}

func stuck(status *corev1.PodStatus, limit time.Duration, now time.Time) bool {
	for _, condition := range status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionFalse {
			return now.Sub(condition.LastTransitionTime.Time) > limit
		}
	}
	return false
}

func ctrlEnded(status *corev1.PodStatus) bool {
	for _, container := range status.ContainerStatuses {
		if container.Name == "osmo-ctrl" {
			return container.State.Terminated != nil
		}
	}
	return true
}

func podError(pod *corev1.Pod, end string) string {
	if pod.Status.Message == "" {
		return ""
	}
	return fmt.Sprintf("Pod %s error message: %s%s", pod.Name, pod.Status.Message, end)
}
