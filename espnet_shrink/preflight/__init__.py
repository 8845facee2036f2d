"""What could fail late, tried before anything long begins; nothing is left behind."""
