package membership

// Propose puts any bytes into the raft log.
func (m *Membership) Propose(data []byte) error {
	return m.raft.Apply(data, m.config.CallTimeout).Error()
}
