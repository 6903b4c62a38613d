package distributed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The producer brings records to Kafka, those of one target (a partition of a topic) in the order in which they were given.
//
// It makes its own batches and requests rather than use kgo's producer, for one reason. Consumers drop by sequence: who has
// seen 12 of a source drops 11. So 12 must never be visible in a target while 11 is not. kgo keeps order while it tries
// again by itself; but when it gives up on a batch (Kafka has refused it, say for want of an access right that comes and
// goes), it fails what it holds for that partition and takes the next record given to it. A sender that has not heard of
// the failure yet gives it 12. Here
//
//   - a target has one batch under way at a time. Kafka takes a batch whole or not at all.
//   - the next one is made when Kafka has acknowledged it. Whatever the failure, the same batch is sent again, for ever.
//
// A batch whose answer was lost is sent again with the same producer id and sequence, and Kafka itself drops the second one.
// Where those are new, because some of a batch need not be sent any more, the consumer does, by the source's sequence. Records
// without a source it can't tell from their doubles. So a target changes its producer id alone, when it must, and not because
// another one has; and a batch is not taken apart while that would double what has no source.
//
// Batches of different targets go together in a request to each broker, up to maxRequests at a time: while those are under
// way others fill up.
type producer struct {
	client *kgo.Client
	topic  func(string) string
	log    *slog.Logger
	m      *metrics
	done   sync.WaitGroup

	mu      sync.Mutex
	targets map[target]*queue
	ready   []*queue // with records, nothing under way and no pause
	flying  map[int32]int
	topics  map[string]*route // by name in Kafka
	id      int64             // for targets that need one: each keeps its own
	epoch   int16             // of id
	hasID   bool
	looking bool // for topics or the id
	wake    chan struct{}
}

const (
	maxRequests     = 3 // at a time to one broker
	maxBatch        = 1 << 20
	maxRequestBytes = 8 << 20
	produceTimeout  = 10 * time.Second
	lookPause       = 100 * time.Millisecond
)

// target is a partition of a topic, by its name in Kafka.
type target struct {
	topic     string
	partition int32
}

// outgoing is a record in the producer's hands.
type outgoing struct {
	outRecord
	header []byte // of the source; nil without one
	// gone says that it need not be sent any more; nil: never.
	gone func() bool
	// done gets the offset once Kafka has the record; it must not block.
	done func(offset int64, err error)
}

// queue is what waits for a target.
type queue struct {
	target
	waiting []*outgoing
	batch   *batch // made and not acknowledged
	busy    bool   // in ready, under way or pausing
	number  int32  // Kafka's sequence of the next batch, under id
	id      int64  // -1: to be had
	epoch   int16  // of id
	pause   time.Duration
	told    time.Time
}

type route struct {
	id      [16]byte
	leaders []int32
}

var errGone = errors.New("the partition that sends it has another owner")

func newProducer(client *kgo.Client, topic func(string) string, log *slog.Logger, m *metrics) *producer {
	return &producer{
		client: client, topic: topic, log: log, m: m, targets: make(map[target]*queue), flying: make(map[int32]int),
		topics: make(map[string]*route), wake: make(chan struct{}, 1),
	}
}

// send takes records in order.
func (p *producer) send(records []*outgoing) {
	p.mu.Lock()
	for _, r := range records {
		at := target{p.topic(r.topic), r.partition}
		q, found := p.targets[at]
		if !found {
			q = &queue{target: at, id: -1}
			p.targets[at] = q
		}
		q.waiting = append(q.waiting, r)
		if !q.busy {
			q.busy = true
			p.ready = append(p.ready, q)
		}
	}
	p.mu.Unlock()
	p.nudge()
}

func (p *producer) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run sends until ctx ends, and then tells everybody who waits.
func (p *producer) run(ctx context.Context) {
	for {
		select {
		case <-p.wake:
			p.dispatch(ctx)
		case <-ctx.Done():
			p.done.Wait()
			p.abandon()
			return
		}
	}
}

func (p *producer) abandon() {
	p.mu.Lock()
	var left []*outgoing
	for _, q := range p.targets {
		if q.batch != nil {
			left = append(left, q.batch.records...)
		}
		left = append(left, q.waiting...)
	}
	p.targets = make(map[target]*queue)
	p.mu.Unlock()
	for _, r := range left {
		r.done(-1, errGone)
	}
}

// dispatch sends what can be sent.
func (p *producer) dispatch(ctx context.Context) {
	p.mu.Lock()
	requests := make(map[int32][]*queue)
	size := make(map[int32]int)
	var gone []*outgoing
	later := p.ready[:0]
	for _, q := range p.ready {
		leader := p.leader(q.target)
		if leader < 0 || !p.hasID {
			p.look(ctx)
			later = append(later, q)
			continue
		}
		if p.flying[leader] >= maxRequests || size[leader] > maxRequestBytes {
			later = append(later, q)
			continue
		}
		gone = append(gone, p.fill(q)...)
		switch {
		case q.id < 0 && len(q.waiting) > 0:
			p.look(ctx)
			later = append(later, q)
			continue
		case q.batch == nil:
			q.busy = false
			continue
		}
		size[leader] += len(q.batch.octets)
		requests[leader] = append(requests[leader], q)
	}
	p.ready = later
	for leader, queues := range requests {
		p.flying[leader]++
		request := p.request(queues)
		p.done.Go(func() { p.carry(ctx, leader, queues, request) })
	}
	p.mu.Unlock()
	for _, r := range gone {
		r.done(-1, errGone)
	}
}

func (p *producer) leader(t target) int32 {
	r, found := p.topics[t.topic]
	if !found || int(t.partition) >= len(r.leaders) {
		return -1
	}
	return r.leaders[t.partition]
}

// fill makes the batch of a target, unless there is one to be sent again. It returns records that need not be sent.
func (p *producer) fill(q *queue) (gone []*outgoing) {
	if q.batch != nil {
		if gone = q.drop(); gone != nil {
			p.renew(q) // Kafka may have the batch or not, and with it the batch's number
			return gone
		}
	}
	if q.id < 0 { // under a new id numbers begin anew
		q.id, q.epoch, q.number = p.id, p.epoch, 0
		if q.batch != nil {
			q.batch = newBatch(q.batch.records, q.id, q.epoch, 0)
		}
	}
	if q.batch != nil {
		return nil
	}
	size, n := 0, 0
	var records []*outgoing
	for ; n < len(q.waiting); n++ {
		r := q.waiting[n]
		if r.gone != nil && r.gone() {
			gone = append(gone, r)
			continue
		}
		if size += r.size(); len(records) > 0 && size > maxBatch {
			break
		}
		records = append(records, r)
	}
	clear(q.waiting[:n])
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	if len(records) > 0 {
		q.batch = newBatch(records, q.id, q.epoch, q.number)
	}
	return gone
}

// renew has a target take another producer id than the one that it has had. Others keep theirs.
func (p *producer) renew(q *queue) {
	if q.id == p.id {
		p.hasID = false
	}
	q.id = -1
}

// drop takes a batch apart of which records need not be sent any more: their partition has another owner, who sends them.
func (q *queue) drop() (gone []*outgoing) {
	var left []*outgoing
	double := false
	for _, r := range q.batch.records {
		if r.gone != nil && r.gone() {
			gone = append(gone, r)
		} else {
			left = append(left, r)
			double = double || r.header == nil
		}
	}
	if double {
		return nil // once more as it is: of the others a second one is dropped
	}
	if gone != nil {
		q.batch, q.waiting = nil, append(left, q.waiting...)
	}
	return gone
}

func (p *producer) request(queues []*queue) *kmsg.ProduceRequest {
	request := kmsg.NewPtrProduceRequest()
	request.Acks = -1
	request.TimeoutMillis = int32(produceTimeout / time.Millisecond)
	at := make(map[string]int)
	for _, q := range queues {
		i, found := at[q.topic]
		if !found {
			i = len(request.Topics)
			at[q.topic] = i
			t := kmsg.NewProduceRequestTopic()
			t.Topic, t.TopicID = q.topic, p.topics[q.topic].id
			request.Topics = append(request.Topics, t)
		}
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = q.partition, q.batch.octets
		request.Topics[i].Partitions = append(request.Topics[i].Partitions, part)
	}
	return request
}

// carry sends a request and hands out the answers.
func (p *producer) carry(ctx context.Context, leader int32, queues []*queue, request *kmsg.ProduceRequest) {
	start := time.Now()
	answer, err := p.client.Broker(int(leader)).Request(ctx, request)
	results := make(map[target]result)
	if err == nil {
		p.m.produce.Observe(time.Since(start).Seconds())
		if response, ok := answer.(*kmsg.ProduceResponse); ok {
			p.read(response, results)
		}
	}
	var acked []*batch
	var offsets []int64
	p.mu.Lock()
	p.flying[leader]--
	for _, q := range queues {
		r, found := results[q.target]
		switch {
		case err != nil:
			r.err = err
		case !found:
			r.err = errors.New("the broker's answer does not name the partition")
		}
		if r.err == nil {
			acked, offsets = append(acked, q.batch), append(offsets, r.offset)
			p.acknowledged(q)
			continue
		}
		p.failed(ctx, q, r.err)
	}
	p.mu.Unlock()
	p.nudge()
	for i, b := range acked {
		for n, r := range b.records {
			r.done(offsets[i]+int64(n), nil)
		}
	}
}

type result struct {
	offset int64
	err    error
}

func (p *producer) read(response *kmsg.ProduceResponse, results map[target]result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make(map[[16]byte]string)
	for name, r := range p.topics {
		names[r.id] = name
	}
	for _, t := range response.Topics {
		if t.Topic == "" {
			t.Topic = names[t.TopicID]
		}
		for _, part := range t.Partitions {
			err := kerr.ErrorForCode(part.ErrorCode)
			if errors.Is(err, kerr.DuplicateSequenceNumber) { // it is there, and the broker has forgotten where
				err = nil
			}
			results[target{t.Topic, part.Partition}] = result{part.BaseOffset, err}
		}
	}
}

// acknowledged makes a target ready for its next batch. p.mu is held.
func (p *producer) acknowledged(q *queue) {
	q.number = q.batch.after()
	if q.number < 0 || q.number > math.MaxInt32-maxBatch { // far before it turns round
		p.renew(q)
	}
	q.batch, q.pause = nil, 0
	if len(q.waiting) > 0 {
		p.ready = append(p.ready, q)
	} else {
		q.busy = false
	}
}

// failed has a target's batch sent again after a pause. p.mu is held.
func (p *producer) failed(ctx context.Context, q *queue, err error) {
	switch {
	case errors.Is(err, kerr.UnknownProducerID), errors.Is(err, kerr.OutOfOrderSequenceNumber),
		errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.InvalidProducerIDMapping):
		p.renew(q)
	default:
		if r, found := p.topics[q.topic]; found {
			r.leaders = nil // another one may lead now
		}
	}
	if ctx.Err() == nil && time.Since(q.told) > tellEvery && q.pause > 0 {
		q.told = time.Now()
		p.log.Warn("records wait for Kafka", "topic", q.topic, "partition", q.partition, "records", len(q.batch.records)+len(q.waiting), "error", err)
	}
	q.pause = min(max(2*q.pause, minBackoff), maxBackoff)
	p.later(q, q.pause)
}

// later makes a target ready after a pause.
func (p *producer) later(q *queue, after time.Duration) {
	time.AfterFunc(after, func() {
		p.mu.Lock()
		p.ready = append(p.ready, q)
		p.mu.Unlock()
		p.nudge()
	})
}

// look finds the producer id and where partitions are. p.mu is held.
func (p *producer) look(ctx context.Context) {
	if p.looking || ctx.Err() != nil {
		return
	}
	p.looking = true
	missing := make(map[string]struct{})
	for _, q := range p.ready {
		if p.leader(q.target) < 0 {
			missing[q.topic] = struct{}{}
		}
	}
	needID := !p.hasID
	p.done.Go(func() {
		topics, err := p.findTopics(ctx, missing)
		id, epoch, idErr := int64(-1), int16(-1), error(nil)
		if needID {
			id, epoch, idErr = p.newID(ctx)
		}
		if err = errors.Join(err, idErr); err != nil && ctx.Err() == nil {
			p.log.Debug("look for the leaders of topics", "error", err)
		}
		pause(ctx, lookPause)
		p.mu.Lock()
		for name, r := range topics {
			p.topics[name] = r
		}
		if needID && idErr == nil {
			p.id, p.epoch, p.hasID = id, epoch, true
		}
		p.looking = false
		p.mu.Unlock()
		p.nudge()
	})
}

func (p *producer) findTopics(ctx context.Context, names map[string]struct{}) (map[string]*route, error) {
	if len(names) == 0 {
		return nil, nil
	}
	request := kmsg.NewPtrMetadataRequest()
	for name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		request.Topics = append(request.Topics, t)
	}
	response, err := request.RequestWith(ctx, p.client)
	if err != nil {
		return nil, fmt.Errorf("ask for topics: %w", err)
	}
	found := make(map[string]*route)
	for _, t := range response.Topics {
		if t.Topic == nil || t.ErrorCode != 0 {
			err = errors.Join(err, kerr.ErrorForCode(t.ErrorCode))
			continue
		}
		r := &route{id: t.TopicID, leaders: make([]int32, len(t.Partitions))}
		for i := range r.leaders {
			r.leaders[i] = -1
		}
		for _, part := range t.Partitions {
			if int(part.Partition) < len(r.leaders) {
				r.leaders[part.Partition] = part.Leader
			}
		}
		found[*t.Topic] = r
	}
	return found, err
}

func (p *producer) newID(ctx context.Context) (id int64, epoch int16, err error) {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionTimeoutMillis = -1
	response, err := request.RequestWith(ctx, p.client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	if err != nil {
		return -1, -1, fmt.Errorf("ask for a producer id: %w", err)
	}
	return response.ProducerID, response.ProducerEpoch, nil
}
