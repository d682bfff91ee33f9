package bunfile

// field is a key of a mapping and what reads its value.
type field struct {
	name string
	read readFunc
}

// readFunc reads the value at path into the place it was made for. What is
// wrong with the value's form it reports; what is wrong with its meaning is
// left to checkSpec.
type readFunc func(d *decoder, n *node, path string)

// specFields are the keys of a document in the order in which they are
// documented and written.
func specFields(s *Spec) []field {
	return []field{
		{"version", text(&s.Version)},
		{"name", text(&s.Name)},
		{"image", mapping(imageFields(&s.Image))},
		{"hostname", text(&s.Hostname)},
		{"labels", textMap(&s.Labels)},
		{"network", text(&s.Network)},
		{"balance", mapping(balanceFields(&s.Balance))},
		{"ports", list(&s.Ports, portFields)},
		{"volumes", list(&s.Volumes, volumeFields)},
		{"environment", environment(&s.Environment)},
		{"env_file", text(&s.EnvFile)},
		{"healthcheck", health(&s.Healthcheck)},
		{"restart_policy", mapping(restartFields(&s.RestartPolicy))},
		{"stop_timeout", optionalDuration(&s.StopTimeout)},
		{"replicas", mapping(replicaFields(&s.Replicas))},
		{"resources", mapping(resourceFields(&s.Resources))},
		{"depends_on", textList(&s.DependsOn)},
	}
}

func imageFields(i *Image) []field {
	return []field{
		{"docker_image", text(&i.DockerImage)},
		{"command", textList(&i.Command)},
		{"workdir", text(&i.Workdir)},
		{"pull", text(&i.Pull)},
		{"user", text(&i.User)},
	}
}

func balanceFields(b *Balance) []field {
	return []field{
		{"algorithm", text(&b.Algorithm)},
		{"mode", text(&b.Mode)},
		{"protocol", text(&b.Protocol)},
		{"prefer", text(&b.Prefer)},
		{"hash", mapping(hashFields(&b.Hash))},
		{"slow_start", duration(&b.SlowStart, 0)},
		{"weight", number(&b.Weight, weights)},
	}
}

func hashFields(h *Hash) []field {
	return []field{
		{"header", text(&h.Header)},
		{"cookie", text(&h.Cookie)},
	}
}

func portFields(p *Port) []field {
	return []field{
		{"container_port", number(&p.ContainerPort, containerPorts)},
		{"host_port", number(&p.HostPort, hostPorts)},
		{"protocol", text(&p.Protocol)},
	}
}

func volumeFields(v *Volume) []field {
	return []field{
		{"source", text(&v.Source)},
		{"target", text(&v.Target)},
		{"mode", text(&v.Mode)},
	}
}

func healthFields(h *Healthcheck) []field {
	return []field{
		{"path", text(&h.Path)},
		{"tcp", number(&h.TCP, containerPorts)},
		{"command", fullTextList(&h.Command)},
		{"interval", duration(&h.Interval, minProbe)},
		{"timeout", duration(&h.Timeout, minProbe)},
		{"retries", number(&h.Retries, retryCounts)},
		{"start_period", duration(&h.StartPeriod, 0)},
	}
}

func restartFields(r *RestartPolicy) []field {
	return []field{
		{"name", text(&r.Name)},
		{"maximum_retry_count", number(&r.MaximumRetryCount, restartCounts)},
	}
}

func replicaFields(r *Replicas) []field {
	return []field{
		{"min", number(&r.Min, minReplicas)},
		{"max", number(&r.Max, maxReplicas)},
	}
}

// resourceFields take 0 for unlimited, as the Spec does.
func resourceFields(r *Resources) []field {
	return []field{
		{"cpu_shares", number(&r.CPUShares, cpuShares.orZero())},
		{"cpu_quota", number(&r.CPUQuota, cpuQuotas.orZero())},
		{"memory_limit", size(&r.MemoryLimit)},
		{"memory_swap", size(&r.MemorySwap)},
		{"blkio_weight", number(&r.BlkioWeight, blkioWeights.orZero())},
		{"pids_limit", number(&r.PidsLimit, pidsLimits.orZero())},
	}
}

// section is a mapping of the file format and its keys.
type section struct {
	path string
	keys []string
}

// sections lists the mappings of the file format.
func sections() []section {
	return []section{
		{"", names(specFields(&Spec{}))},
		{"image", names(imageFields(&Image{}))},
		{"balance", names(balanceFields(&Balance{}))},
		{"balance.hash", names(hashFields(&Hash{}))},
		{"ports", names(portFields(&Port{}))},
		{"volumes", names(volumeFields(&Volume{}))},
		{"healthcheck", names(healthFields(&Healthcheck{}))},
		{"restart_policy", names(restartFields(&RestartPolicy{}))},
		{"replicas", names(replicaFields(&Replicas{}))},
		{"resources", names(resourceFields(&Resources{}))},
	}
}

func names(fields []field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}
