package topic_test

import (
	"testing"

	"github.com/hawser-project/hawser/cluster/topic"
)

// TestEveryCallHasOneRoleThatAnswers: an answer is believed because its process has the role.
func TestEveryCallHasOneRoleThatAnswers(t *testing.T) {
	t.Parallel()
	for _, d := range topic.Definitions() {
		if d.What == "call" && len(d.To) != 1 {
			t.Errorf("%s is answered by %v, want one role", d.Name, d.To)
		}
		if role, found := topic.Answerer(d.Name); d.What == "call" && (!found || role != d.To[0]) {
			t.Errorf("the answerer of %s is %q, %v", d.Name, role, found)
		}
	}
}
