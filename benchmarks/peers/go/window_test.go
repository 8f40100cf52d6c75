// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestEachMessageIsAcknowledgedOnce(t *testing.T) {
	open := newWindow(2)
	for range 2 {
		open.slots <- struct{}{}
	}
	first, second := report(1), report(2)
	open.add(first)
	open.add(second)
	if err := open.acknowledge(first.GetUuid()); err != nil {
		t.Fatal(err)
	}
	if open.acknowledge(first.GetUuid()) == nil {
		t.Error("a second acknowledgement is not noticed")
	}
	if open.acknowledge(report(3).GetUuid()) == nil {
		t.Error("an acknowledgement of what was not sent is not noticed")
	}
	if len(open.slots) != 1 {
		t.Errorf("%d slots are taken, want 1", len(open.slots))
	}
}
