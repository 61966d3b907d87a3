package presence

import (
	"slices"
	"strings"
)

// Presence is one session's presence in one topic under one key. It is immutable; an update makes a new one.
type Presence struct {
	Topic   Topic
	Key     Key
	Session SessionID
	Ref     Ref
	PrevRef Ref  // of the version that an update replaced; "" at first
	Meta    Meta // canonical, without the refs
}

// AppendJSON appends the meta as others see it: the refs, then the client's members.
func (p *Presence) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"phx_ref":"`...)
	dst = append(dst, p.Ref...)
	dst = append(dst, '"')
	if p.PrevRef != "" {
		dst = append(dst, `,"phx_ref_prev":"`...)
		dst = append(dst, p.PrevRef...)
		dst = append(dst, '"')
	}
	if len(p.Meta) > len(emptyMeta) {
		dst = append(dst, ',')
		return append(dst, p.Meta[1:]...)
	}
	return append(dst, '}')
}

func compareRefs(a, b *Presence) int { return strings.Compare(string(a.Ref), string(b.Ref)) }

// Metas are the presences of one key in one topic, oldest ref first.
type Metas []*Presence

// AppendJSON appends {"metas":[…]}.
func (m Metas) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"metas":[`...)
	for i, p := range m {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = p.AppendJSON(dst)
	}
	return append(dst, "]}"...)
}

// with returns m and p, sorted. It may use m's spare capacity, and leaves m's own elements as they are.
func (m Metas) with(p *Presence) Metas {
	if len(m) == 0 || compareRefs(m[len(m)-1], p) < 0 {
		return append(m, p)
	}
	i, _ := slices.BinarySearchFunc(m, p, compareRefs)
	return slices.Insert(slices.Clone(m), i, p)
}

// without returns a copy of m without the presence that has p's ref.
func (m Metas) without(p *Presence) Metas {
	i, found := slices.BinarySearchFunc(m, p, compareRefs)
	if !found {
		return m
	}
	return slices.Concat(m[:i], m[i+1:])
}

// Member is one key of a topic with its metas.
type Member struct {
	Key   Key
	Metas Metas
}

// Members are keys with their metas, in byte order of the keys.
type Members []Member

// AppendJSON appends {"key":{"metas":[…]},…}: what Phoenix calls a state.
func (m Members) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i, member := range m {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendName(dst, string(member.Key))
		dst = append(dst, ':')
		dst = member.Metas.AppendJSON(dst)
	}
	return append(dst, '}')
}

// AppendName appends a topic or key as a JSON string. Names have no control characters, so only quotes and backslashes need care.
func AppendName(dst []byte, name string) []byte {
	dst = append(dst, '"')
	for {
		i := strings.IndexAny(name, `"\`)
		if i < 0 {
			break
		}
		dst = append(dst, name[:i]...)
		dst = append(dst, '\\', name[i])
		name = name[i+1:]
	}
	dst = append(dst, name...)
	return append(dst, '"')
}
