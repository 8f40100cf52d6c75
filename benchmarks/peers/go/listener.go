// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"osmo.nvidia.com/protos/listenerpb"
)

const (
	workflowLabel = "osmo.workflow_uuid"
	taskLabel     = "osmo.task_uuid"
	retryLabel    = "osmo.retry_id"

	resyncPeriod = 300 * time.Second
	resendAfter  = 15 * time.Minute
	// Reports that the informer's handler may be ahead of the stream.
	updateBuffer = 500
	// Unacknowledged reports: the study found 100 to be too few for bursts.
	maxUnacked = 10_000
)

func listenerCommand(flags *flag.FlagSet) func(context.Context) error {
	target := flags.String("connect", "", "where the operator listens")
	kubeconfig := flags.String("kubeconfig", "", "file that names the cluster")
	namespace := flags.String("namespace", "osmo", "of the workflows")
	tuned := flags.Bool("tuned", false, "slim objects, no limits and no line per message")
	return func(ctx context.Context) error {
		config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
		if err != nil {
			return err
		}
		if *tuned {
			tune(config)
		}
		clients, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		call, close, err := connect(ctx, *target)
		if err != nil {
			return err
		}
		defer close()
		updates := make(chan *listenerpb.UpdatePodBody, updateBuffer)
		informer, err := podInformer(clients, *namespace, *tuned, newTracker(ctx, updates))
		if err != nil {
			return err
		}
		go informer.RunWithContext(ctx)
		return send(ctx, call, updates, !*tuned)
	}
}

// What a user of client-go changes first where it is to be fast; protobuf, it asks for by itself.
func tune(config *rest.Config) {
	config.QPS = -1
}

func podInformer(clients kubernetes.Interface, namespace string, tuned bool, t *tracker) (
	cache.SharedIndexInformer, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(clients, resyncPeriod,
		informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.LabelSelector = taskLabel + "," + workflowLabel
		}))
	informer := factory.Core().V1().Pods().Informer()
	if tuned {
		if err := informer.SetTransform(slim); err != nil {
			return nil, err
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { t.seen(object) },
		UpdateFunc: func(_, object any) { t.seen(object) },
		DeleteFunc: func(object any) { t.gone(object) },
	})
	return informer, err
}

// Drop what no rule reads.
func slim(object any) (any, error) {
	pod, isPod := object.(*corev1.Pod)
	if !isPod {
		return object, nil
	}
	labels := map[string]string{}
	for _, name := range []string{workflowLabel, taskLabel, retryLabel} {
		if value, there := pod.Labels[name]; there {
			labels[name] = value
		}
	}
	kept := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID,
			ResourceVersion: pod.ResourceVersion, Labels: labels,
		},
		Spec: corev1.PodSpec{NodeName: pod.Spec.NodeName},
		Status: corev1.PodStatus{
			Phase: pod.Status.Phase, Reason: pod.Status.Reason, Message: pod.Status.Message,
			PodIP: pod.Status.PodIP, Conditions: pod.Status.Conditions,
			InitContainerStatuses: slimStatuses(pod.Status.InitContainerStatuses),
			ContainerStatuses:     slimStatuses(pod.Status.ContainerStatuses),
		},
	}
	if len(pod.Spec.Containers) > 0 {
		kept.Spec.Containers = []corev1.Container{{Name: pod.Spec.Containers[0].Name}}
	}
	return kept, nil
}

func slimStatuses(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	kept := make([]corev1.ContainerStatus, len(statuses))
	for number, each := range statuses {
		kept[number] = corev1.ContainerStatus{Name: each.Name, State: each.State}
	}
	return kept
}

type taskKey struct {
	workflow, task string
	retry          int
}

type lastSent struct {
	status string
	at     time.Time
}

// Reports a pod when its status has changed, or was not reported for long. The informer calls it
// from one goroutine.
type tracker struct {
	ctx     context.Context
	updates chan<- *listenerpb.UpdatePodBody
	sent    map[taskKey]lastSent
}

func newTracker(ctx context.Context, updates chan<- *listenerpb.UpdatePodBody) *tracker {
	return &tracker{ctx: ctx, updates: updates, sent: map[taskKey]lastSent{}}
}

func keyOf(pod *corev1.Pod) taskKey {
	retry, err := strconv.Atoi(pod.Labels[retryLabel])
	if err != nil {
		retry = 0
	}
	return taskKey{pod.Labels[workflowLabel], pod.Labels[taskLabel], retry}
}

func (t *tracker) seen(object any) {
	pod, isPod := object.(*corev1.Pod)
	if !isPod {
		return
	}
	now := time.Now()
	state := statusOf(pod, now)
	if state.status == "UNKNOWN" || pod.Status.Phase == corev1.PodUnknown {
		return
	}
	key := keyOf(pod)
	last, known := t.sent[key]
	if known && last.status == state.status && now.Sub(last.at) < resendAfter {
		return
	}
	select {
	case t.updates <- updateOf(pod, key, state):
		t.sent[key] = lastSent{state.status, now}
	case <-t.ctx.Done():
	}
}

// Its last state is looked at once more, and then forgotten.
func (t *tracker) gone(object any) {
	if deleted, isUnknown := object.(cache.DeletedFinalStateUnknown); isUnknown {
		object = deleted.Obj
	}
	if pod, isPod := object.(*corev1.Pod); isPod {
		t.seen(pod)
		delete(t.sent, keyOf(pod))
	}
}

func updateOf(pod *corev1.Pod, key taskKey, state podState) *listenerpb.UpdatePodBody {
	body := &listenerpb.UpdatePodBody{
		WorkflowUuid: key.workflow, TaskUuid: key.task, RetryId: int32(key.retry),
		Node: pod.Spec.NodeName, PodIp: pod.Status.PodIP, Message: state.message,
		Status: state.status, ExitCode: state.exitCode, Backend: backend,
	}
	if len(pod.Spec.Containers) > 0 {
		body.Container = pod.Spec.Containers[0].Name
	}
	for _, condition := range pod.Status.Conditions {
		body.Conditions = append(body.Conditions, &listenerpb.ConditionMessage{
			Reason: condition.Reason, Message: condition.Message, Type: string(condition.Type),
			Timestamp: condition.LastTransitionTime.UTC().Format(timestampLayout),
			Status:    condition.Status == corev1.ConditionTrue,
		})
	}
	return body
}

// Send each update as a message of its own, until ctx or the stream ends.
func send(ctx context.Context, call stream, updates <-chan *listenerpb.UpdatePodBody, log bool) error {
	open := newWindow(maxUnacked)
	failed := open.readAcks(call, math.MaxInt)
	for {
		select {
		case body := <-updates:
			select {
			case open.slots <- struct{}{}:
			case err := <-failed:
				return lost(ctx, err)
			}
			message := newMessage(body)
			open.add(message)
			if err := call.Send(message); err != nil {
				return lost(ctx, err)
			}
			if log {
				slog.Info("sent", "uuid", message.GetUuid(), "task", body.GetTaskUuid(),
					"status", body.GetStatus())
			}
		case err := <-failed:
			return lost(ctx, err)
		case <-ctx.Done():
			return nil
		}
	}
}

// Whether the stream broke by itself.
func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the stream broke: %w", err)
}
