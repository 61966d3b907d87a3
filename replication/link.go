package replication

import (
	"context"
	"iter"
)

// link carries messages to other nodes. An error means that the message may not have arrived, or has but not its answer.
type link interface {
	// exchange asks for what we lack. begun gets the other's digests, then each gets part after part.
	exchange(ctx context.Context, addr string, ask Digests, begun func(Digests), each func(Part)) error
	// repair brings what the other lacks.
	repair(ctx context.Context, addr string, greeting Digests, parts iter.Seq[Part]) error
	// push brings an encoded [Push].
	push(ctx context.Context, addr string, encoded []byte) error
	// ops asks for operations on sessions. There are as many results.
	ops(ctx context.Context, addr string, ops Ops) ([]OpResult, error)
}
