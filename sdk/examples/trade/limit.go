package main

import (
	"fmt"

	"github.com/hawser-project/hawser/sdk/flow"
)

// Limit is a side's own rule: the largest value, quantity times price, that it accepts.
type Limit struct {
	MaxValue int64 `json:"maxValue"`
}

const (
	limitKey     = "settings/limit"
	defaultLimit = 1_000_000
)

// SetLimit sets this side's limit and gives back the one before.
func SetLimit(c *flow.Ctx, limit Limit) (Limit, error) {
	if limit.MaxValue < 0 {
		return Limit{}, invalid("limit %d is negative", limit.MaxValue)
	}
	before, err := limitOf(c)
	if err != nil {
		return Limit{}, err
	}
	return before, c.Store().Put(limitKey, limit)
}

func limitOf(c *flow.Ctx) (Limit, error) {
	limit := Limit{MaxValue: defaultLimit}
	_, err := c.Store().Get(limitKey, &limit)
	return limit, err
}

func (l Limit) judge(p Proposal) Answer {
	if value := p.Quantity * p.Price; value > l.MaxValue {
		return Answer{Reason: fmt.Sprintf("value %d is over the limit of %d", value, l.MaxValue)}
	}
	return Answer{Accepted: true}
}
