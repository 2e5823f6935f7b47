#!/usr/bin/env node
import '../dist/device/main.js';
